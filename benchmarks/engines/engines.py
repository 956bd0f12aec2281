"""The engines: how each is started, by the command that its users give."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.engines.plan import Plan
from benchmarks.engines.processes import Processes
from benchmarks.shared.errors import BenchError
from d2serve.server.packaging.writing import package
from d2serve.server.torchserve.config.ports import Ports
from tests.engines.triton.running import tritonserver

_ROOT = Path(__file__).resolve().parents[2]
_BESIDE = Path(sys.prefix) / ".d2serve"
_OURS = ("-W", "ignore", "-c", "from d2serve.cli.main import main; main()")
_SECONDS_TO_START, _SECONDS_TO_STOP = 180.0, 60.0

Start = tuple[list[str], Mapping[str, str], int]
"""A command, variables beside those of this process, and the port that answers HTTP."""


@dataclass(frozen=True)
class Engine:
    """One engine."""

    label: str
    package: str
    """Its distribution, whose version is told."""
    environment: Path
    """That has it."""
    start: Callable[[Path, Path, Plan], Start]
    """Of an archive, a new folder of its own and the plan."""
    ready_path: str = "/v2/health/ready"

    def version(self) -> str:
        """Of its distribution."""
        packages = sysconfig.get_path("purelib", vars={"base": str(self.environment)})
        (found,) = distributions(name=self.package, path=[packages])
        return found.version


def _torchserve(archive: Path, folder: Path, plan: Plan) -> Start:
    ports = Ports.free()
    settings = folder / "config.properties"
    ours = (_ROOT / "config.properties").read_text(encoding="utf-8")
    settings.write_text(f"{ours}\ndefault_workers_per_model={plan.workers}\n", encoding="utf-8")
    shutil.copy(_ROOT / "metrics.yaml", folder)
    options = {
        "config": settings,
        "inference-port": ports.inference,
        "management-port": ports.management,
        "metrics-port": ports.metrics,
        "grpc-port": ports.grpc_inference,
        "grpc-management-port": ports.grpc_management,
        "probe-port": 0,
    }
    command = [sys.executable, *_OURS, "serve", str(archive), "--without-tokens"]
    return [*command, *_as_options(options)], {}, ports.inference


def _ray_serve(archive: Path, _folder: Path, plan: Plan) -> Start:
    port = Ports.free().inference
    options = {"replicas": plan.workers, "port": port, "cpus-per-replica": plan.threads}
    command = [str(_python("engines")), *_OURS, "ray-serve", str(archive)]
    return [*command, *_as_options(options)], {}, port


def _kserve(archive: Path, _folder: Path, plan: Plan) -> Start:
    port = Ports.free().inference
    options = {"workers": plan.workers, "http-port": port, "grpc-port": 0}
    command = [str(_python("engines")), *_OURS, "kserve", str(archive)]
    return [*command, *_as_options(options)], {}, port


def _triton(archive: Path, folder: Path, plan: Plan) -> Start:
    made, _ = package(archive, "triton", folder)
    (file,) = made.glob("models/*/config.pbtxt")
    told = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r"count: \d+", f"count: {plan.workers}", told), encoding="utf-8")
    ports = Ports.free()
    places = (_BESIDE / "triton", made / "models", folder)
    command, variables = tritonserver(*places, ports.inference, ports.grpc_inference)
    return command, variables, ports.inference


ENGINES: Mapping[str, Engine] = {
    "torchserve": Engine("TorchServe", "torchserve", Path(sys.prefix), _torchserve, "/ping"),
    "ray-serve": Engine("Ray Serve", "ray", _BESIDE / "engines", _ray_serve),
    "kserve": Engine("KServe's server", "kserve", _BESIDE / "engines", _kserve),
    "triton": Engine("Triton (nvidia-pytriton)", "nvidia-pytriton", _BESIDE / "triton", _triton),
}


class Running:
    """An engine whose workers are ready; as a context manager, it is stopped in the end."""

    def __init__(self, name: str, archive: Path, folder: Path, plan: Plan) -> None:
        """
        Args:
            name: of the engine.
            archive: that it serves.
            folder: a new one of its own.
            plan: of the run.
        """
        folder.mkdir()
        self._name, self._plan = name, plan
        command, variables, port = ENGINES[name].start(archive, folder, plan)
        self.address = "127.0.0.1", port
        self._log = folder / "log"
        with self._log.open("wb") as written:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **variables, "OMP_NUM_THREADS": str(plan.threads)},
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                cwd=folder,
                # Ctrl-C is for us, who stop it in order. No session of its own: Linux shares the
                # cores by session.
                process_group=0,
            )
        self.processes = Processes(self._process.pid)

    def wait(self) -> None:
        """Wait until every worker is there.

        Raises:
            BenchError: it ended, or does not become ready.
        """
        if not self.is_whole(_SECONDS_TO_START):
            label = ENGINES[self._name].label
            raise BenchError(f"{label} does not start: {self.log()[-2000:]}")

    def is_whole(self, seconds: float) -> bool:
        """Whether every worker is there, or comes within so many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._is_ready() and len(self.processes.workers()) == self._plan.workers:
                return True
            time.sleep(0.2)
        return False

    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def kill_a_worker(self) -> None:
        """End one of those that have the model, without a chance to say anything."""
        os.kill(self.processes.workers()[0], signal.SIGKILL)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            connection.request("GET", ENGINES[self._name].ready_path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _python(environment: str) -> Path:
    return _BESIDE / environment / "bin" / "python"


def _as_options(options: Mapping[str, object]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]
