"""kill -9 of the server, in every way there is: it starts again, and nothing piles up."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from d2serve.client import D2ServeClient
from d2serve.server.torchserve.directories import PREFIX, make_directory, sweep
from tests.faults.conftest import Operator, wait_for, wait_until_serving

pytestmark = pytest.mark.server


def kill_command(operator: Operator, pid: int) -> None:
    """Only ``d2serve serve`` itself: its launcher notices and ends the rest."""
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not operator.processes())


def kill_java(operator: Operator, _pid: int) -> None:
    """TorchServe itself, as the system does when memory runs out."""
    pid_file = operator.directories()[0] / "tmp" / ".model_server.pid"
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


def kill_command_and_launcher(operator: Operator, pid: int) -> None:
    """Nobody is left who would end Java and its workers: the next start has to."""
    (launcher,) = psutil.Process(pid).children()
    launcher.suspend()
    os.kill(pid, signal.SIGKILL)
    launcher.kill()
    time.sleep(0.5)
    assert operator.processes(), "Java and a worker are still there"


KILLS = (kill_java, kill_command, kill_command_and_launcher)


@pytest.mark.parametrize("restarts", [len(KILLS), pytest.param(10, marks=pytest.mark.long)])
def test_it_starts_again_each_time_without_orphans_and_with_a_bounded_tmp(
    restarts: int, operator: Operator
) -> None:
    # Of a server that somebody else once killed, as TorchServe leaves it.
    (operator.temporary / ".model_server.pid").write_text(str(os.getpid()))
    for number in range(restarts):
        process = operator.start(*operator.serve())
        wait_until_serving(process)
        assert len(operator.directories()) == 1, "of the killed ones nothing is left"
        assert len(operator.processes()) >= 3, "launcher, Java, one worker"
        with D2ServeClient(
            f"127.0.0.1:{operator.ports.inference}", key_file=operator.folder / "key_file.json"
        ) as client:
            assert client.predict("canned", b"1").model == "canned"
        KILLS[number % len(KILLS)](operator, process.pid)
        process.communicate(timeout=60)
        assert process.returncode != 0
    process = operator.start(*operator.serve())
    wait_until_serving(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert operator.processes() == []
    assert [path.name for path in operator.temporary.iterdir()] == [".model_server.pid"]
    assert not os.path.lexists(operator.folder / "key_file.json")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{operator.ports.inference}/ping")


def test_a_sweep_leaves_what_has_an_owner_and_what_is_no_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("d2serve.server.torchserve.directories._LONGEST_TEMP", 1_000)
    owned, abandoned = make_directory(), make_directory()
    # The number of a living process, which must not be taken for the server's.
    (abandoned.path / "tmp" / ".model_server.pid").write_text(str(os.getpid()))
    abandoned._lock.close()
    (tmp_path / f"{PREFIX}other").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(owned.path)
    assert sweep() == [abandoned.path]
    assert owned.path.is_dir()
    assert not abandoned.path.exists()
    assert (tmp_path / f"{PREFIX}other").is_dir(), "it has no lock: not ours"
    owned.remove()
    assert not owned.path.exists()
