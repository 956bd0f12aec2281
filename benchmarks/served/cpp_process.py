"""The C++ program as a worker: a process that answers the picture once whenever it is asked.

``d2serve_predict`` is no server. It answers the files that its command line names, one after the
other; so it is given the picture's name many times, and stopped by a signal between two answers:
what it does, it does while a client waits.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

from benchmarks.served.possible import CPP_PROGRAM
from benchmarks.shared.errors import BenchError

_MOST_ANSWERS = 400
"""More than a run asks for; were each to fail, what is said of it fits into a pipe."""


class CppProcess:
    """Started when it is entered as a context, and ended at its end."""

    def __init__(self, archive: Path, image: bytes, threads: int) -> None:
        """
        Args:
            archive: the .mar.
            image: an encoded picture, of which alone it will be asked.
            threads: of the program.
        """
        self._archive, self._image, self._threads = archive, image, threads

    def __enter__(self) -> CppProcess:
        self._folder = tempfile.TemporaryDirectory(prefix="d2serve-cpp-")
        picture = Path(self._folder.name, "p.jpg")
        picture.write_bytes(self._image)
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._threads)}
        self._process = subprocess.Popen(
            [
                *(str(CPP_PROGRAM), "--threads", str(self._threads), "--time", str(self._archive)),
                *[picture.name] * _MOST_ANSWERS,
            ],
            cwd=picture.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        """Return when the model is loaded.

        Raises:
            BenchError: it is not; with what the program said.
        """
        self._said("load ")
        self._process.send_signal(signal.SIGSTOP)

    def ask(self, image: bytes) -> bytes:
        """The reply to the picture.

        Raises:
            BenchError: it is another picture, or the program failed on it.
        """
        if image != self._image:
            raise BenchError("The C++ program was asked about another picture than it has.")
        self._process.send_signal(signal.SIGCONT)
        assert self._process.stdout is not None
        reply = self._process.stdout.readline()
        if not reply:
            raise BenchError(f"{CPP_PROGRAM.name} gave no answer: {self._all_said()}")
        self._said("forward ")
        self._process.send_signal(signal.SIGSTOP)
        return reply

    def _said(self, expected: str) -> None:
        """Read a line of what it says of its times."""
        assert self._process.stderr is not None
        line = self._process.stderr.readline().decode("utf-8", "replace")
        if expected not in line:
            raise BenchError(f"{CPP_PROGRAM.name} failed: {line}{self._all_said()}")

    def _all_said(self) -> str:
        self._process.kill()
        assert self._process.stderr is not None
        # Not communicate(), which leaves out what reading a line has taken along.
        said = self._process.stderr.read()
        return said.decode("utf-8", "replace").strip()[-800:]
