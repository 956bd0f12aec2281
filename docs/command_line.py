"""``d2serve`` with every command loaded: what `make docs` writes the reference from."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from d2serve.cli.app import load
from d2serve.cli.commands import COMMANDS, SUMMARY


class _AllLoaded(TyperGroup):
    """The application itself loads a command when it is run, and shows the names of the others."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update({name: load(name) for name in COMMANDS})


app = typer.Typer(cls=_AllLoaded, help=SUMMARY, add_completion=False)


@app.callback()
def _of_all_commands() -> None:
    pass
