"""The server of a soak: ``d2serve serve`` as an operator runs it, in a folder of its own.

It is stopped by SIGTERM and upgraded by ``d2serve upgrade``, and its tokens hold for a minute.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path

import httpx

from benchmarks.shared.errors import BenchError
from benchmarks.soak.traffic import MODEL
from d2serve.client.connection.credentials import KEY_FILE_NAME
from d2serve.client.management import ManagementClient
from d2serve.server.torchserve.config.metrics_file import FILE_NAME as METRICS_FILE
from d2serve.server.torchserve.config.metrics_file import metrics_file
from d2serve.server.torchserve.config.ports import Ports
from d2serve.server.torchserve.config.properties import format_properties, safe_defaults

_COMMAND = str(Path(sys.executable).with_name("d2serve"))
_TOKENS_HOLD_MINUTES = 1
_SECONDS_TO_START = 300.0
_SECONDS_TO_STOP = 90.0
_SECONDS_TO_UPGRADE = 600.0
_POLL_SECONDS = 0.05
_WINOGRAD = "Winograd"
"""Is in the line that a worker writes when it loads a program with such convolutions."""
_MANIFEST = "MAR-INF/MANIFEST.json"


class Served:
    """Started when it is entered as a context, and ended at its end."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.version = 1
        """The one that has to answer."""
        self.log = Log()
        self._folder = folder
        self._ports = Ports.free()
        self._probe_port = _free_port()
        self._process: subprocess.Popen[str] | None = None
        self._store = folder / "model_store"
        self._store.mkdir()
        self._archive = with_version(archive, 1, self._store)
        settings = {**safe_defaults(), "token_expiration_min": str(_TOKENS_HOLD_MINUTES)}
        (folder / "config.properties").write_text(format_properties(settings))
        (folder / METRICS_FILE).write_text(metrics_file())

    @property
    def inference_address(self) -> str:
        return self._ports.address("inference")

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self._ports.grpc_inference}"

    @property
    def key_file(self) -> Path:
        return self._folder / KEY_FILE_NAME

    @property
    def pid(self) -> int:
        """Of ``d2serve serve``."""
        assert self._process is not None
        return self._process.pid

    @property
    def said(self) -> str:
        """What it has written to standard error so far, in all its lives."""
        return (self._folder / "errors").read_text(errors="replace")

    def management(self) -> ManagementClient:
        """A new client, to be closed."""
        return ManagementClient(self._ports.address("management"), key_file=self.key_file)

    def is_ready(self) -> bool:
        """What its probe says."""
        try:
            reply = httpx.get(
                f"http://127.0.0.1:{self._probe_port}/ready", timeout=10, trust_env=False
            )
        except httpx.HTTPError:
            return False
        return reply.status_code == 200

    def start(self) -> None:
        """Start it, and return when it is ready."""
        ports = self._ports
        command = [
            *(_COMMAND, "serve", f"{MODEL}={self._archive.name}", "--log-format=json"),
            *("--state=state.json", "--model-store=model_store", "--config=config.properties"),
            f"--inference-port={ports.inference}",
            f"--management-port={ports.management}",
            f"--metrics-port={ports.metrics}",
            f"--grpc-port={ports.grpc_inference}",
            f"--grpc-management-port={ports.grpc_management}",
            f"--probe-port={self._probe_port}",
        ]
        with (self._folder / "errors").open("a") as errors:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self.log.follow(self._process)
        deadline = time.monotonic() + _SECONDS_TO_START
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() >= deadline:
                raise BenchError(f"`d2serve serve` does not serve: {self.said}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> int:
        """Send SIGTERM, and return its exit status when it has ended."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_SECONDS_TO_STOP)

    def upgrade(self) -> str:
        """Upgrade to a next version of the same model; what went wrong, or nothing."""
        archive = with_version(self._archive, self.version + 1, self._folder)
        done = subprocess.run(
            [
                *(_COMMAND, "upgrade", MODEL, archive.name),
                f"--address={self.inference_address}",
                f"--management-address={self._ports.address('management')}",
            ],
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS_TO_UPGRADE,
            env={**os.environ, "COLUMNS": "400"},
        )
        archive.unlink()
        if done.returncode:
            return f"`d2serve upgrade` ended with {done.returncode}: {done.stderr.strip()}"
        self.version += 1
        return ""

    def __enter__(self) -> Served:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Log:
    """Counts what a server writes to its standard output, where every line is a JSON object."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        """By logger."""
        self.no_objects: list[str] = []
        """Lines that are none."""
        self.convolutions: Counter[str] = Counter()
        """What workers said of the convolutions that they run with."""

    def follow(self, process: subprocess.Popen[str]) -> None:
        """Read to the end, in a thread."""
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                    self.events[event["logger"]] += 1
                    if _WINOGRAD in str(event.get("message")):
                        self.convolutions[event["message"]] += 1
                except (ValueError, TypeError, KeyError):
                    self.no_objects.append(line)


def with_version(archive: Path, version: int, folder: Path) -> Path:
    """A copy of an archive under another version, in a folder."""
    made = folder / f"{MODEL}-{version}.mar"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(made, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename == _MANIFEST:
                manifest = json.loads(data)
                manifest["model"]["modelVersion"] = f"{version}.0"
                data = json.dumps(manifest).encode()
            target.writestr(entry, data)
    shutil.copystat(archive, made)
    return made


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])
