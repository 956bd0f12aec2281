"""A tritonserver of nvidia-pytriton on a model repository of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from d2serve.server.torchserve.config.ports import Ports

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


def tritonserver(
    environment: Path, repository: Path, folder: Path, http: int, grpc: int
) -> tuple[list[str], dict[str, str]]:
    """What starts one: a command, and variables beside those of this process.

    Args:
        environment: that has nvidia-pytriton, made by the Python that runs this.
        repository: of models.
        folder: a new one of its own, for the backend.
        http, grpc: ports.
    """
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    root = packages / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for file in (
        *(root / "backends" / "python").glob("*.*"),
        root / "python_backend_stubs" / version / "triton_python_backend_stub",
    ):
        shutil.copy(file, backend)
    options = {
        "model-repository": repository,
        "backend-directory": backend.parent,
        "http-address": "127.0.0.1",
        "http-port": http,
        "grpc-address": "127.0.0.1",
        "grpc-port": grpc,
        "allow-metrics": "false",
    }
    libraries = (packages / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR"))
    variables = {
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        # The backend starts the first python3 that it finds.
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    command = [str(root / "bin" / "tritonserver")]
    return [*command, *(f"--{name}={value}" for name, value in options.items())], variables


@contextmanager
def running(repository: Path, folder: Path, *options: str) -> Iterator[Triton]:
    """Start one and wait until its models are ready; it is stopped in the end.

    Args:
        repository: of models.
        folder: a new one of its own.
        options: further ones of the server.
    """
    ports = Ports.free()
    http, grpc = ports.inference, ports.grpc_inference
    command, variables = tritonserver(Path(sys.prefix), repository, folder, http, grpc)
    log = folder / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [*command, *options],
            env={**os.environ, **variables},
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    triton = Triton(process, f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", log)
    try:
        _wait_until_ready(triton)
        yield triton
    finally:
        process.terminate()
        try:
            process.wait(_SECONDS_TO_STOP)
        finally:
            process.kill()


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
