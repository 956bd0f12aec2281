"""Sees each image as it is compared, keeps those that differ most, and draws them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from d2serve.export.errors import one_line
from d2serve.export.proof.comparing.comparison import Difference
from d2serve.export.proof.differences.finding import Finding
from d2serve.export.proof.differences.findings import ImageFindings, find
from d2serve.export.proof.differences.pages import page_of
from d2serve.export.proof.differences.panels import Subject
from d2serve.export.reading.image_files import Pixels
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.replies.drawing import Legend
from d2serve.handlers.requests.bands import viewable
from d2serve.handlers.spec.bounds import Bounds

_MOST_FAILURES = 20
"""Images that are kept in memory for an error."""
_PICTURES_OF_A_FAILURE = 3


@dataclass(frozen=True)
class Seen:
    """One image as it was compared."""

    difference: Difference
    found: ImageFindings

    @property
    def greatest(self) -> Finding | None:
        """The greatest of what is out of bounds; otherwise of all."""
        return self.found.findings[0] if self.found.findings else None

    @property
    def rank(self) -> tuple[bool, float]:
        """What sorts images by how far their answers are apart."""
        first = self.greatest
        return bool(self.difference.misses), 0.0 if first is None else first.share


class Gallery:
    """Of all images that were compared, what differs; of the worst, what a picture needs."""

    def __init__(self, legend: Legend, bounds: Bounds, most: int) -> None:
        """
        Args:
            legend: what the model's classes and labels are called.
            bounds: within which the answers agree.
            most: pictures that can be made.
        """
        self._legend, self._bounds, self._most = legend, bounds, most
        self._kept: list[tuple[Seen, Subject]] = []
        self.seen: list[Seen] = []
        """Every image, in the order in which they were compared."""

    def see(self, pixels: Pixels, expected: Outputs, got: Outputs, difference: Difference) -> None:
        """Take note of an image: its pixels, eager's answer, the archive's, and the verdict."""
        found = find(expected, got, self._legend, self._bounds)
        seen = Seen(difference, found)
        self.seen.append(seen)
        # Where each is near enough and too many are not, each is shown.
        shown = [each for each in found.findings if each.differs] if difference.misses else []
        subject = Subject(pixels, expected, got, shown or found.findings, self._legend)
        self._kept.append((seen, subject))
        self._kept.sort(key=lambda each: each[0].rank, reverse=True)
        del self._kept[self._most :]

    def write(self, folder: Path, within: bool = False) -> list[Path]:
        """Draw the images that differ most, the worst first.

        Args:
            folder: to write to; it is made if need be.
            within: also those whose answers are within bounds, if they differ at all.

        Raises:
            OSError: it cannot be written.
        """
        files: list[Path] = []
        for seen, subject in self._kept:
            if not seen.difference.misses and not (within and seen.found.findings):
                continue
            folder.mkdir(parents=True, exist_ok=True)
            name = re.sub(r"[^A-Za-z0-9_.-]+", "_", seen.difference.image)
            file = folder / f"{len(files) + 1:02d}_{name}.png"
            shown = Subject(
                viewable(subject.pixels),
                subject.expected,
                subject.got,
                subject.findings,
                subject.legend,
            )
            page_of(seen.difference.image, _verdict(seen.difference.misses), shown).save(file)
            files.append(file)
        return files


class Failures:
    """Of a comparison that must not differ: the images that did, drawn for its error alone."""

    def __init__(self) -> None:
        self._seen: list[tuple[Pixels, Outputs, Outputs, Difference]] = []

    def see(self, pixels: Pixels, expected: Outputs, got: Outputs, difference: Difference) -> None:
        """See ``Gallery.see``."""
        if difference.misses and len(self._seen) < _MOST_FAILURES:
            self._seen.append((pixels, expected, got, difference))

    def sentence(self, legend: Legend, bounds: Bounds) -> str:
        """Draw the worst into a new temporary folder, and say where they are.

        Whatever goes wrong with a picture must not hide the error for which it is made.
        """
        try:
            gallery = Gallery(legend, bounds, _PICTURES_OF_A_FAILURE)
            for each in self._seen:
                gallery.see(*each)
            folder = Path(tempfile.mkdtemp(prefix="d2serve-differences-"))
            gallery.write(folder)
        except Exception as error:
            return f" No picture of it could be drawn ({type(error).__name__}: {one_line(error)})."
        return f" Pictures of where they differ, the worst first, are in {folder}"


def _verdict(misses: Sequence[str]) -> str:
    return "; ".join(misses) if misses else "the answers agree within bounds"
