"""What the workers of a model see of each other, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from d2serve.handlers.torchserve import busy
from d2serve.handlers.torchserve.busy import WorkerMark

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no locks of this kind")

WORKER = """
import sys
from pathlib import Path
from d2serve.handlers.torchserve.busy import WorkerMark
mark = WorkerMark(Path(sys.argv[1]))
print("idle", flush=True)
sys.stdin.readline()
with mark.busy():
    print("busy", flush=True)
    sys.stdin.readline()
print("idle", flush=True)
sys.stdin.readline()
"""


class Worker:
    """A process that goes on to its next state when it is told to."""

    def __init__(self, folder: Path) -> None:
        paths = os.pathsep.join(os.path.abspath(each) for each in sys.path if each)  # noqa: PTH100
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder)],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "idle\n"

    def go_on(self) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


@pytest.fixture
def workers(folder: Path) -> Iterator[list[Worker]]:
    made = [Worker(folder), Worker(folder)]
    yield made
    for worker in made:
        worker.kill()


def test_a_worker_sees_which_others_are_busy(folder: Path, workers: list[Worker]) -> None:
    mark = WorkerMark(folder)
    first, second = workers
    assert mark.others() == {"others": 2, "busy": 0}
    assert first.go_on() == "busy"
    assert mark.others() == {"others": 2, "busy": 1}
    assert second.go_on() == "busy"
    with mark.busy():
        assert mark.others() == {"others": 2, "busy": 2}, "the others, not this one"
    assert first.go_on() == "idle"
    assert mark.others() == {"others": 2, "busy": 1}


def test_a_killed_worker_is_not_busy(folder: Path, workers: list[Worker]) -> None:
    mark = WorkerMark(folder)
    assert workers[0].go_on() == "busy"
    workers[0].kill()
    assert mark.others() == {"others": 1, "busy": 0}
    assert len(list(folder.iterdir())) == 2, "its file is gone"


def test_a_worker_that_fails_is_not_busy_any_more(folder: Path) -> None:
    mark, other = WorkerMark(folder), Worker(folder)
    with pytest.raises(ValueError, match="failed"), mark.busy():
        raise ValueError("failed")
    (file,) = folder.glob(f"*-{os.getpid()}")
    assert file.read_bytes() == b"0"
    other.kill()


def test_a_folder_of_the_users_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    """TorchServe links to a folder that is registered, from a folder of its own."""
    own = tmp_path / "torchserves"
    own.mkdir()
    (own / "model").symlink_to(folder)
    WorkerMark(own / "model")
    assert list(folder.iterdir()) == []
    assert len(list(own.iterdir())) == 2


def test_without_a_place_or_locks_nothing_is_known_and_nothing_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    marks = [WorkerMark(folder / "not there")]
    assert "nobody can tell whether this worker is busy" in caplog.text
    monkeypatch.setattr(busy, "fcntl", None)
    marks.append(WorkerMark(folder))
    for mark in marks:
        with mark.busy():
            assert mark.others() is None
    assert list(folder.iterdir()) == []


def test_a_disk_that_fails_fails_no_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = WorkerMark(folder)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fail)
    with mark.busy():
        pass


def test_being_busy_costs_next_to_nothing(folder: Path) -> None:
    """A request takes milliseconds at least."""
    mark, times = WorkerMark(folder), []
    for _ in range(2000):
        began = time.perf_counter()
        with mark.busy():
            pass
        times.append(time.perf_counter() - began)
    assert sorted(times)[len(times) // 2] < 0.00005
