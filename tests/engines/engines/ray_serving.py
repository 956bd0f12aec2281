"""Starts `d2serve ray-serve`, or Ray's own `serve run`, as a user does, for the tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

MAIN = "from d2serve.cli.main import main; main()"
JPEG = {"content-type": "image/jpeg"}
SECONDS_TO_START = 240.0


@dataclass
class Serving:
    """A server that was started, and where it is."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def ask(self, path: str, image: Path) -> httpx.Response:
        url = f"{self.address}/{path}"
        return httpx.post(url, content=image.read_bytes(), headers=JPEG, timeout=120)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def children(self, word: str) -> list[int]:
        """Process ids of what it started and whose command line begins with this word."""
        return [pid for pid in _descendants(self.process.pid) if _command(pid).startswith(word)]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(120)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def ray_served(
    folder: Path, *words: object, environment: Mapping[str, str] | None = None
) -> Iterator[Serving]:
    """`d2serve ray-serve` with these words, until the end."""
    port = free_port()
    command = [sys.executable, "-c", MAIN, "ray-serve", *map(str, words), "--port", str(port)]
    with _started(command, folder, port, "/ping", environment or {}) as serving:
        yield serving


@contextmanager
def serve_run(
    folder: Path, words: Sequence[object], port: int, environment: Mapping[str, str]
) -> Iterator[Serving]:
    """`serve run` with these words, until the end."""
    serve = Path(sys.executable).with_name("serve")
    # It takes a Ray that it finds on the machine, unless it is told to start one.
    own = {"RAY_ADDRESS": "local", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [str(serve), "run", *map(str, words)]
    with _started(command, folder, port, "/ping", {**own, **environment}) as serving:
        yield serving


@contextmanager
def _started(
    command: list[str], folder: Path, port: int, ready: str, environment: Mapping[str, str]
) -> Iterator[Serving]:
    log = folder / f"log-{port}"
    env = {**os.environ, "COLUMNS": "200", **environment}
    with log.open("wb") as written:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=written, stderr=subprocess.STDOUT
        )
    serving = Serving(process, f"http://127.0.0.1:{port}", log)
    try:
        _wait(serving, ready)
        yield serving
    finally:
        if process.poll() is None:
            started = _descendants(process.pid)
            process.terminate()
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pid in started:  # by their own ids, where they are there still
                if _command(pid).startswith(("ray::", "raylet")):
                    os.kill(pid, signal.SIGKILL)


def _wait(serving: Serving, ready: str) -> None:
    until = time.monotonic() + SECONDS_TO_START
    while True:
        assert serving.process.poll() is None, serving.said()
        assert time.monotonic() < until, serving.said()
        try:
            if httpx.get(serving.address + ready, timeout=10).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.3)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = {int(each) for task in tasks for each in _read(task / "children").split()}
    except OSError:
        return found
    for child in children:
        found += [child, *_descendants(child)]
    return found


def _command(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
