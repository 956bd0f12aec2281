"""Asks ``d2serve_probe``, a program of examples/cpp/tests, for the bytes that the library makes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from d2serve.handlers.spec.image_form import COLOUR, ImageForm

Pixels = npt.NDArray[np.uint8]
N = TypeVar("N", bound=np.generic)


@dataclass(frozen=True)
class Read:
    """What became of an image file."""

    pixels: Pixels | None
    converted: str | None = None
    error: str | None = None


class Probe:
    """The program, run once for many files or images."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def images(self, files: Sequence[Path], form: ImageForm = COLOUR) -> list[Read]:
        """Read image files."""
        arguments = (form.image_format, str(form.channels), form.sixteen_bit)
        given = "".join(f"{file}\n" for file in files).encode()
        answer = self.run("image", *arguments, given=given)
        return [self._image(answer) for _ in files]

    def resized(self, images: Sequence[tuple[Pixels, int, int]]) -> list[Pixels]:
        """Resize pixels, each to a height and a width."""
        given = b"".join(
            " ".join(map(str, (*pixels.shape, height, width))).encode() + b"\n" + pixels.tobytes()
            for pixels, height, width in images
        )
        answer = self.run("resize", given=given)
        return [
            answer.array(np.uint8, (height, width, pixels.shape[2]))
            for pixels, height, width in images
        ]

    def inputs(
        self, model: Path, files: Sequence[Path]
    ) -> list[tuple[npt.NDArray[np.float32], tuple[int, int]]]:
        """What a program gets of image files, and each image's own height and width."""
        answer = self.run("input", str(model), *map(str, files))
        made = []
        for _ in files:
            channels, height, width, *sent = map(int, answer.line().split())
            tensor = answer.array(np.float32, (channels, height, width))
            made.append((tensor, (sent[0], sent[1])))
        return made

    def refusals(self, specs: Sequence[str]) -> list[str | None]:
        """Of texts of model_spec.json, why each is refused; None where it is not."""
        given = "".join(text.replace("\n", " ") + "\n" for text in specs).encode()
        answer = self.run("specs", given=given)
        lines = [answer.line() for _ in specs]
        return [None if line == "ok" else line.removeprefix("error ") for line in lines]

    def open(self, model: Path) -> str:
        """Name and version of an archive that can be opened, otherwise the message why not."""
        done = subprocess.run(
            [self.program, "open", model], capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode, done.stdout == "") in ((0, False), (1, True)), done.stderr[-4000:]
        return (done.stdout or done.stderr).strip()

    def run(self, *arguments: str, given: bytes = b"", wait: float = 300) -> Answer:
        """What the program says; a test fails where it does not succeed."""
        done = subprocess.run(
            [self.program, *arguments], input=given, capture_output=True, check=False, timeout=wait
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
        return Answer(done.stdout)

    @staticmethod
    def _image(answer: Answer) -> Read:
        line = answer.line()
        if line.startswith("error "):
            return Read(None, error=line.removeprefix("error "))
        height, width, channels, converted = line.split(" ", 3)
        shape = (int(height), int(width), int(channels))
        return Read(answer.array(np.uint8, shape), converted or None)


class Answer:
    """Lines and arrays, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def line(self) -> str:
        end = self._data.index(b"\n", self._at)
        line = self._data[self._at : end].decode()
        self._at = end + 1
        return line

    def array(self, dtype: type[N], shape: tuple[int, ...]) -> npt.NDArray[N]:
        count = int(np.prod(shape))
        made = np.frombuffer(self._data, dtype, count, self._at).reshape(shape)
        self._at += made.nbytes
        return made
