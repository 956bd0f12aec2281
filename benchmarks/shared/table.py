"""A table for the terminal and for Markdown: the same one is read in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table as RichTable

from d2serve.server.measuring.figures import Figure


@dataclass(frozen=True)
class Table:
    """Rows of text under a title, with a sentence on how to read them."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def for_terminal(self) -> RichTable:
        """The table as rich prints it."""
        shown = RichTable(*self.header, title=self.title, caption=self.note)
        for row in self.rows:
            shown.add_row(*row)
        return shown

    def as_markdown(self) -> str:
        """The table under a heading."""
        lines = [
            f"## {self.title}\n",
            _row(self.header),
            _row(["---", *["---:"] * (len(self.header) - 1)]),
            *(_row(row) for row in self.rows),
            f"\n{self.note}\n",
        ]
        return "\n".join(lines)


def spread(figure: Figure, digits: int) -> str:
    """A figure with its range."""
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"


def size(height_and_width: tuple[int, int]) -> str:
    """A size, with what it counts first."""
    return "{}x{} (height x width)".format(*height_and_width)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
