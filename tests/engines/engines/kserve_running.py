"""A server of ``python -m d2serve.server.kserve`` as a process, and KServe's messages to ask it."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx

from d2serve.server.kserve.library import messages, services

MESSAGE_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


@dataclass
class KServe:
    """A server that runs, or ran."""

    process: subprocess.Popen[bytes]
    rest: str
    grpc: str
    log: Path

    @property
    def told(self) -> str:
        """What it wrote so far."""
        return self.log.read_text()

    def ask(self, path: str, **request: Any) -> httpx.Response:
        """What a POST is answered with."""
        return httpx.post(f"{self.rest}{path}", timeout=120, **request)

    @contextlib.contextmanager
    def stub(self) -> Iterator[Any]:
        """The methods of its gRPC service."""
        with grpc.insecure_channel(self.grpc, MESSAGE_OPTIONS) as channel:
            yield services.GRPCInferenceServiceStub(channel)

    def end(self) -> int:
        """Send SIGTERM, and the exit status of the process."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def running(folder: Path, *arguments: object) -> Iterator[KServe]:
    """A server that is ready, until the end of the block."""
    http, over_grpc = free_ports(2)
    ports = "--http-port", http, "--grpc-port", over_grpc
    command = [sys.executable, "-m", "d2serve.server.kserve", *map(str, (*arguments, *ports))]
    log = folder / f"kserve-{http}.log"
    with log.open("wb") as written:
        process = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT)
    server = KServe(process, f"http://127.0.0.1:{http}", f"127.0.0.1:{over_grpc}", log)
    try:
        until_ready(server)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until_ready(server: KServe) -> None:
    end = time.monotonic() + 120
    while True:
        assert server.process.poll() is None, server.told
        assert time.monotonic() < end, server.told
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.rest}/v2/health/ready").status_code == 200:
                return
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in found]


def infer_request(model: str, jpeg: bytes, version: str = "", **more: Any) -> Any:
    """A call with an image file as raw contents."""
    image = {"name": "image", "datatype": "BYTES", "shape": [1]}
    raw = [len(jpeg).to_bytes(4, "little") + jpeg]
    named = {"model_name": model, "model_version": version}
    call = {**named, "inputs": [image], "raw_input_contents": raw, **more}
    return messages.ModelInferRequest(**call)
