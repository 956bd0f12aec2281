"""A tritonserver of nvidia-pytriton on a model repository of ours."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx

_SECONDS_TO_START, _SECONDS_TO_STOP = 120, 60


@dataclass
class Triton:
    """One that runs."""

    process: subprocess.Popen[bytes]
    http: str
    """host:port"""
    grpc: str
    """host:port"""
    log: Path


@contextmanager
def running(repository: Path, folder: Path) -> Iterator[Triton]:
    """Start one and wait until its models are ready; it is stopped in the end.

    Args:
        repository: of models.
        folder: a new one of its own.
    """
    root = _root()
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for file in (
        *(root / "tritonserver" / "backends" / "python").glob("*.*"),
        root / "tritonserver" / "python_backend_stubs" / version / "triton_python_backend_stub",
    ):
        shutil.copy(file, backend)
    ports = _free_ports()
    options = {
        "model-repository": repository,
        "backend-directory": backend.parent,
        "http-address": "127.0.0.1",
        "http-port": ports[0],
        "grpc-address": "127.0.0.1",
        "grpc-port": ports[1],
        "allow-metrics": "false",
    }
    libraries = (root.parent / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR"))
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        # The backend starts the first python3 that it finds.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    log = folder / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [
                str(root / "tritonserver" / "bin" / "tritonserver"),
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            env=environment,
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    triton = Triton(process, f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", log)
    try:
        _wait_until_ready(triton)
        yield triton
    finally:
        process.terminate()
        try:
            process.wait(_SECONDS_TO_STOP)
        finally:
            process.kill()


def _root() -> Path:
    spec = find_spec("pytriton")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _wait_until_ready(triton: Triton) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline:
        assert triton.process.poll() is None, triton.log.read_text()
        try:
            if httpx.get(f"http://{triton.http}/v2/health/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"Triton is not ready:\n{triton.log.read_text()}")
