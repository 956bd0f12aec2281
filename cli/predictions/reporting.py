"""What ``d2serve predict`` does with each answer: it prints, draws and keeps it, and counts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import orjson
from rich.markup import escape

from d2serve.cli.predictions.inputs import Input, Inputs
from d2serve.cli.predictions.pictures import Pictures
from d2serve.cli.predictions.prediction_tables import heading, in_a_line, tables
from d2serve.cli.progress import console, error_console, note, shown_rate
from d2serve.client.errors import (
    ArchiveRefused,
    AuthorizationError,
    ClientError,
    HandlerFailed,
    ModelNotFound,
    RequestRejected,
    ServerUnavailable,
    StubsUnavailable,
)
from d2serve.client.predict.image_input import ImageInput
from d2serve.client.results.coco_results import CocoIds, CocoResults, NoCocoResults
from d2serve.client.results.prediction import Prediction
from d2serve.server.video.frames import VideoUnwritable

Ask = Callable[[ImageInput], Prediction]
"""Gives the answer to an image, or raises ClientError."""

CONCERNS_EVERY_IMAGE = (
    ArchiveRefused,
    AuthorizationError,
    ModelNotFound,
    NoCocoResults,
    ServerUnavailable,
    StubsUnavailable,
    VideoUnwritable,
)
_FEW = 10
"""Images of which each has a line, so that no sum is needed."""


class Report:
    """Takes the answers, one after the other."""

    def __init__(
        self, as_json: bool, pictures: Pictures | None, results: CocoResults | None
    ) -> None:
        self._as_json = as_json
        self._pictures = pictures
        self._results = results
        self._begun = time.monotonic()
        self.answered = 0
        self.failed = 0

    def add(self, item: Input, image: ImageInput, prediction: Prediction) -> None:
        """Print, draw and keep an answer."""
        self.answered += 1
        self._print(item, prediction)
        steps: list[Callable[[], None]] = []
        if self._results is not None:
            results = self._results
            steps.append(lambda: results.add(item.name, prediction))
        if self._pictures is not None:
            pictures = self._pictures
            steps.append(lambda: pictures.add(item, image, prediction))
        for step in steps:
            try:
                step()
            except CONCERNS_EVERY_IMAGE:
                raise
            except ClientError as error:
                self.failed += 1
                _print_error(item.name, error)

    def fail(self, item: Input, error: ClientError) -> None:
        """Say why one has no answer; in JSON, too, so that lines and images can be matched."""
        self.failed += 1
        _print_error(item.name, error)
        if self._as_json:
            if isinstance(error, (RequestRejected, HandlerFailed)):  # as the server said it
                said: dict[str, Any] = {"error": {"code": error.code, "message": error.message}}
                if error.request_id is not None:
                    said["request_id"] = error.request_id
            else:
                said = {"error": {"code": type(error).__name__, "message": str(error)}}
            _print_json({**_place(item), **said})

    def sum_up(self) -> None:
        """Say how many there were, where there were more than a few."""
        if self.answered + self.failed > _FEW:
            seconds = time.monotonic() - self._begun
            failed = f", {self.failed:,} failed" if self.failed else ""
            error_console.print(
                f"[dim]{self.answered:,} images in {seconds:.1f} s "
                f"({self.answered / seconds:.1f} a second){failed}[/]",
                highlight=False,
            )
        left_out = self._results.left_out() if self._results is not None else None
        if left_out is not None:
            note(left_out)

    def _print(self, item: Input, prediction: Prediction) -> None:
        if self._as_json:
            _print_json({**_place(item), **prediction.raw})
        elif item.frame is not None:
            found = escape(f"{item.name}: {in_a_line(prediction)}")
            console.print(found, highlight=False, soft_wrap=True)
        else:
            console.print(heading(item.name, prediction), highlight=False, soft_wrap=True)
            console.print(*tables(prediction), sep="\n")


@contextmanager
def reporting(
    as_json: bool, draw: Path | None, coco: tuple[Path, CocoIds] | None
) -> Iterator[Report]:
    """A report, whose files are finished when the block ends."""
    pictures = None if draw is None else Pictures(draw, _wrote)
    try:
        if coco is None:
            yield Report(as_json, pictures, None)
            return
        with CocoResults.writing(*coco) as results:
            yield Report(as_json, pictures, results)
        _wrote(coco[0])
    finally:
        if pictures is not None:
            pictures.close()


def answer_all(inputs: Inputs, ask: Ask, report: Report) -> None:
    """Answer one after the other; one that fails is reported, and harms no other.

    Raises:
        ClientError: one of ``CONCERNS_EVERY_IMAGE``.
    """
    with shown_rate("images", beside_results=True) as show:
        show(0, inputs.total)
        for number, item in enumerate(inputs, 1):
            try:
                image = item.read()
                prediction = ask(image)
            except CONCERNS_EVERY_IMAGE:
                raise
            except ClientError as error:
                report.fail(item, error)
            else:
                report.add(item, image, prediction)
            show(number, inputs.total)


def _place(item: Input) -> dict[str, object]:
    """Where in a video a frame is; nothing of an image."""
    if item.frame is None or item.video is None:
        return {}
    return {"video": item.video.name, "frame": item.frame.number, "time": item.frame.time}


def _wrote(path: Path) -> None:
    error_console.print(f"[dim]wrote {escape(str(path))}[/]", highlight=False, soft_wrap=True)


def _print_error(name: str, error: ClientError) -> None:
    said = str(error)
    prefix = "" if said.startswith(f"{name} ") else f"[red]{escape(name)}:[/] "
    error_console.print(f"{prefix}{escape(said)}", soft_wrap=True)


def _print_json(value: dict[str, object]) -> None:
    sys.stdout.buffer.write(orjson.dumps(value) + b"\n")
    sys.stdout.buffer.flush()
