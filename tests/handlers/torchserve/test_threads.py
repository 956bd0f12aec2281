"""How many threads a worker takes: its share of the cores that there really are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from d2serve.handlers import cores
from d2serve.handlers.torchserve import threads
from d2serve.handlers.torchserve.threads import sibling_workers, thread_share


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Eight cores, no quota, no siblings, nothing set by an operator."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "_OWN_CGROUPS", tmp_path / "none")
    monkeypatch.setattr(threads, "_PROC", tmp_path / "proc")
    return monkeypatch


@pytest.mark.parametrize(
    ("max_workers", "siblings", "share"),
    [(1, None, 8), (1, 1, 8), (2, None, 4), (2, 1, 4), (1, 4, 2), (3, 2, 2), (99, 1, 1), (0, 0, 8)],
)
def test_cores_are_divided_by_workers(
    machine: pytest.MonkeyPatch, max_workers: int, siblings: int | None, share: int
) -> None:
    machine.setattr(threads, "sibling_workers", lambda: siblings)
    assert thread_share(max_workers) == share


@pytest.mark.parametrize(
    ("setting", "share"),
    [("3", 3), ("64", 64), ("", 4), ("0", 4), ("-1", 4), ("many", 4), ("²", 4), ("1.5", 4)],
)
def test_what_an_operator_sets_is_the_answer_where_it_is_a_number(
    machine: pytest.MonkeyPatch, setting: str, share: int
) -> None:
    machine.setenv("OMP_NUM_THREADS", setting)
    assert thread_share(2) == share


def test_a_thread_of_the_server_that_ends_meanwhile_hides_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Java's threads come and go: its list of children cannot be read about once in thirty."""
    looks = iter([False, False, True])

    def children_of(_: int) -> set[str]:
        if next(looks):
            return {"1", "2"}
        raise ProcessLookupError

    monkeypatch.setattr(threads, "_children_of", children_of)
    monkeypatch.setattr(threads, "_is_worker", lambda _: True)
    assert sibling_workers() == 2


@pytest.mark.usefixtures("machine")
def test_siblings_that_cannot_be_seen() -> None:
    assert sibling_workers() is None
    assert thread_share(4) == 2


WORKER = """
import sys
from d2serve.handlers.torchserve.threads import sibling_workers
sys.stdin.readline()  # until the others have started as well
print(sibling_workers(), flush=True)
sys.stdin.readline()
"""

SERVER = """
import subprocess, sys, threading
def start(script):
    started.append(subprocess.Popen(
        [sys.executable, script, "--port", "9000"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ))
    finish.wait(60)
started, finish = [], threading.Event()
scripts = ["model_service_worker.py"] * 3 + ["other.py"]
for script in scripts:  # as Java does, from threads of its own
    threading.Thread(target=start, args=(script,), daemon=True).start()
while len(started) < len(scripts):
    pass
for process in started:
    process.stdin.write("all are there\\n")
    process.stdin.flush()
    print(process.stdout.readline().strip(), flush=True)
for process in started:
    process.stdin.close()
    process.wait(30)
finish.set()
"""


@pytest.mark.skipif(
    not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="needs /proc/*/children"
)
def test_workers_of_a_server_are_counted(tmp_path: Path) -> None:
    for name in ("model_service_worker.py", "other.py"):
        (tmp_path / name).write_text(WORKER)
    (tmp_path / "server.py").write_text(SERVER)
    path = os.pathsep.join(each for each in sys.path if each)
    told = subprocess.run(
        [sys.executable, "server.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert told.stdout.split() == ["3", "3", "3", "3"]
