"""What is left of a killed server is ended by the next start, and nothing of the user's is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from d2serve.server.torchserve.directories import ServerDirectory, make_directory, sweep
from tests.faults.conftest import Operator, wait_for, wait_until_serving

WORKER_SCRIPT = "model_service_worker.py"


@pytest.fixture
def dead_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ServerDirectory:
    """The directory of a server whose process has ended without tidying up."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("d2serve.server.torchserve.directories._LONGEST_TEMP", 1_000)
    directory = make_directory()
    (directory.path / "logs").mkdir()
    (directory.path / "logs" / "ts_log.log").write_text("a line\n")
    directory._lock.close()
    return directory


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def bystanders_in(directory: Path, elsewhere: Path) -> dict[str, list[str]]:
    """Commands that a user runs in a server's directory, or about it."""
    log, config = str(directory / "logs" / "ts_log.log"), str(directory / "config.properties")
    other_worker = elsewhere / WORKER_SCRIPT
    other_worker.write_text("import time; time.sleep(600)")
    return {
        "a shell": ["sh", "-c", "sleep 600; true"],
        "one that follows the log": ["tail", "-f", log],
        "an editor of its settings": ["sh", "-c", "sleep 600; true", "vi", config],
        "another server's worker": [
            *(sys.executable, str(other_worker), "--sock-type", "unix"),
            *("--sock-name", str(elsewhere / ".ts.sock.9000")),
        ],
    }


def test_a_sweep_ends_workers_and_leaves_the_users_processes(
    dead_server: ServerDirectory, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    directory = dead_server.path
    users = {}
    for name, command in bystanders_in(directory, tmp_path).items():
        inside = name != "another server's worker"
        users[name] = subprocess.Popen(command, cwd=directory if inside else tmp_path)
        started.append(users[name])
    script = directory / "tmp" / WORKER_SCRIPT
    script.write_text("import subprocess; subprocess.run(['sleep', '600'])")
    socket = directory / "tmp" / ".ts.sock.9000"
    by_socket = [sys.executable, str(script), "--sock-type", "unix", "--sock-name", str(socket)]
    by_port = [sys.executable, str(script), "--sock-type", "tcp", "--port", "9001"]
    workers = [
        subprocess.Popen(by_socket, cwd=tmp_path),
        subprocess.Popen(by_port, cwd=directory / "tmp"),
    ]
    started += workers
    for worker in workers:
        wait_for(lambda pid=worker.pid: psutil.Process(pid).children())
    left = [psutil.Process(worker.pid) for worker in workers]
    left += [child for worker in left for child in worker.children()]

    assert sweep() == [directory]

    assert {name: user.poll() for name, user in users.items()} == dict.fromkeys(users)
    assert len(left) == 4, "the workers, and what each had started"
    assert not any(each.is_running() for each in left)
    assert not directory.exists()


@pytest.mark.server
def test_a_start_ends_what_a_killed_server_left_and_a_users_shell_lives_on(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    process = operator.start(*operator.serve())
    wait_until_serving(process)
    (directory,) = operator.directories()
    (launcher,) = psutil.Process(process.pid).children()
    launcher.suspend()  # it would end Java and the worker, as long as it lives
    os.kill(process.pid, signal.SIGKILL)
    launcher.kill()
    process.communicate(timeout=60)
    left = operator.processes()
    assert any("org.pytorch.serve.ModelServer" in each.cmdline() for each in left)
    assert any(WORKER_SCRIPT in " ".join(each.cmdline()) for each in left)
    shell = subprocess.Popen(["sh", "-c", "sleep 600; true"], cwd=directory / "logs")
    started.append(shell)

    monkeypatch.setattr(tempfile, "tempdir", str(operator.temporary))
    assert sweep() == [directory]

    assert psutil.wait_procs(left, timeout=10)[1] == []
    assert shell.poll() is None
    assert not directory.exists()
