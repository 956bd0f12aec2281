"""Processes of FastAPI, which we start, wait for and end, as TorchServe does with its workers.

Each has a port of its own, and each client a process of its own. That is the best a set of them can
do: ``uvicorn --workers`` lets one process accept two connections while another has none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx

from benchmarks.shared.errors import BenchError
from d2serve.server.torchserve.config.ports import Ports

_ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.05
_SECONDS_TO_START = 180.0
_SECONDS_TO_END = 10.0


class FastApiProcess:
    """One uvicorn with one model, on the loopback address; a context manager."""

    def __init__(self, folder: Path, threads: int) -> None:
        """
        Args:
            folder: with config.yaml and model.pth.
            threads: OMP_NUM_THREADS.
        """
        port = Ports.free().inference
        self.address = f"http://127.0.0.1:{port}"
        # A file, since a pipe that nobody reads fills up and blocks the process.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "benchmarks.served.fastapi_server",
                folder,
                str(port),
            ],
            cwd=_ROOT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Return when it answers.

        Raises:
            BenchError: it ended, or does not answer in time.
        """
        deadline = time.monotonic() + _SECONDS_TO_START
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                httpx.get(f"{self.address}/ready", trust_env=False).raise_for_status()
                return
            time.sleep(_POLL_SECONDS)
        self._log.seek(0)
        told = self._log.read()[-800:].decode("utf-8", "replace")
        raise BenchError(
            f"The FastAPI server is not READY (exit status {self._process.poll()}). Are fastapi "
            f"and uvicorn installed? pip install '.[bench]'. It wrote: {told}"
        )

    def __enter__(self) -> FastApiProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._log.close()
