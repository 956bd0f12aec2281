"""An operator at a terminal, in a folder and with a temporary directory of their own, who runs
``d2serve``; and archives of a handler that needs no model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

import psutil
import pytest

from d2serve.server.torchserve.config.ports import Ports
from tests.client.conftest import CANNED_HANDLER, make_archive

MAIN = "from d2serve.cli.app import main; main()"
CAN_MOUNT = (
    subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        check=False,
    ).returncode
    == 0
    if shutil.which("unshare")
    else False
)
needs_mounts = pytest.mark.skipif(
    not CAN_MOUNT, reason="a small disk is a tmpfs in a mount namespace: needs unshare --mount"
)


def end(process: subprocess.Popen[str]) -> None:
    """End a process of ours and its children, whatever state a failed test left them in."""
    try:
        members = [*psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        members = []
    process.kill()
    for member in members:
        if member.is_running():
            member.kill()
    psutil.wait_procs(members, timeout=10)
    process.communicate(timeout=10)


@dataclass
class Operator:
    """Runs ``d2serve serve`` in ``folder``, which has a model store with ``canned.mar``."""

    folder: Path
    temporary: Path
    ports: Ports
    probe_port: int
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.folder / "model_store"

    def start(
        self,
        *arguments: str,
        before: str | None = None,
        environment: Mapping[str, str] | None = None,
        code: str = MAIN,
    ) -> subprocess.Popen[str]:
        """``before``: shell commands to run first, in a mount namespace of the command's own."""
        command: Sequence[str] = [sys.executable, "-W", "ignore", "-c", code, *arguments]
        if before is not None:
            script = f'set -e\n{before}\nexec "$@"'
            command = ["unshare", "--mount", "bash", "-c", script, "bash", *command]
        paths = [os.path.abspath(each) for each in sys.path if each]  # noqa: PTH100 (no resolving)
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "TMPDIR": str(self.temporary),
                "COLUMNS": "200",
                **(environment or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def serve(self, *arguments: str) -> list[str]:
        """The arguments of ``d2serve serve`` on this operator's ports."""
        return [
            "serve",
            f"--inference-port={self.ports.inference}",
            f"--management-port={self.ports.management}",
            f"--metrics-port={self.ports.metrics}",
            f"--grpc-port={self.ports.grpc_inference}",
            f"--grpc-management-port={self.ports.grpc_management}",
            f"--probe-port={self.probe_port}",
            *arguments,
        ]

    def directories(self) -> list[Path]:
        """Those of servers, in the temporary directory."""
        return sorted(self.temporary.glob("d2serve-run-*"))

    def processes(self) -> list[psutil.Process]:
        """Every process that works inside the temporary directory: launcher, Java, workers."""
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.temporary):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def wait_until_serving(process: subprocess.Popen[str]) -> str:
    """What ``d2serve serve`` says up to the moment it serves."""
    assert process.stdout is not None
    said = ""
    while "Ctrl-C" not in said:
        line = process.stdout.readline()
        assert line, f"ended too early: {process.communicate()}"
        said += line
    return said


def wait_for(condition: object, seconds: float = 20.0) -> None:
    """Wait until the function ``condition`` gives something true."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def canned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """canned.mar, which answers without a model."""
    store = tmp_path_factory.mktemp("faults") / "store"
    store.mkdir()
    return make_archive(store, "canned", CANNED_HANDLER, "1.0")


@pytest.fixture
def operator(tmp_path: Path, canned: Path) -> Iterator[Operator]:
    temporary = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    (tmp_path / "model_store").mkdir()
    shutil.copy(canned, tmp_path / "model_store")
    ports = Ports.free()
    probe_port = next(port for port in astuple(Ports.free()) if port not in astuple(ports))
    made = Operator(tmp_path, temporary, ports, probe_port)
    yield made
    for process in made.started:
        end(process)
    for left in made.processes():
        left.kill()
    shutil.rmtree(temporary)
