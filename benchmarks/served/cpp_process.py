"""The C++ program as a worker: a process that answers a picture whenever it is asked.

``d2serve_predict`` is no server. It answers the files that its command line names, one after the
other. So it is given the name of a pipe many times, and waits at the pipe for the next picture:
what it does, it does while a client waits.
"""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.served.possible import CPP_PROGRAM
from benchmarks.shared.errors import BenchError

_MOST_ANSWERS = 400
"""More than a run asks for; were each to fail, what is said of it fits into a pipe."""


class CppProcess:
    """Started when it is entered as a context, and ended at its end."""

    def __init__(self, archive: Path, threads: int) -> None:
        """
        Args:
            archive: the .mar.
            threads: of the program.
        """
        self._archive, self._threads = archive, threads

    def __enter__(self) -> CppProcess:
        self._folder = tempfile.TemporaryDirectory(prefix="d2serve-cpp-")
        self._pipe = Path(self._folder.name, "p.jpg")
        os.mkfifo(self._pipe)
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._threads)}
        self._process = subprocess.Popen(
            [
                *(str(CPP_PROGRAM), "--threads", str(self._threads), "--time", str(self._archive)),
                *[self._pipe.name] * _MOST_ANSWERS,
            ],
            cwd=self._pipe.parent,
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

    def ask(self, image: bytes) -> bytes:
        """The reply to an encoded picture.

        Raises:
            BenchError: the program failed on it.
        """
        self._write(image)
        assert self._process.stdout is not None
        reply = self._process.stdout.readline()
        if not reply:
            raise BenchError(f"{CPP_PROGRAM.name} gave no answer: {self._all_said()}")
        self._said("forward ")
        return reply

    def _write(self, image: bytes) -> None:
        # Without waiting for a reader: one that has ended opens the pipe no more.
        while self._process.poll() is None:
            try:
                pipe = os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                time.sleep(0.001)
                continue
            os.set_blocking(pipe, True)
            with os.fdopen(pipe, "wb") as file:
                file.write(image)
            return

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
