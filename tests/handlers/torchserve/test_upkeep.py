"""What a worker does for itself is done now and then, and never costs anybody an answer."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from d2serve.handlers.detector import Detector
from d2serve.handlers.runtimes.batching import BatchPlanner
from d2serve.handlers.torchserve import upkeep
from d2serve.handlers.torchserve.memory import WorkerMemory
from d2serve.handlers.torchserve.upkeep import Upkeep
from tests.handlers.samples import spec_with


class Runtime:
    """Remembers the threads it was given; fails where it is told to."""

    on_gpu = False

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.fails = False

    def run(self, images: Any, *_: object) -> list[Any]:
        return [{} for _ in images]

    def set_threads(self, threads: int) -> None:
        if self.fails:
            raise MemoryError("no room for a second session")
        self.threads.append(threads)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(upkeep, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def made(runtime: Runtime, max_workers: int = 1) -> Upkeep:
    detector = Detector(spec_with(), runtime, BatchPlanner("never", True, False))
    return Upkeep(detector, max_workers, WorkerMemory(detector))


def test_the_share_of_cores_is_asked_for_again_now_and_then(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int]()

    def thread_share(max_workers: int) -> int:
        asked.append(max_workers)
        return 1

    monkeypatch.setattr(upkeep, "thread_share", thread_share)
    kept = made(Runtime(), max_workers=3)
    assert asked == [3]
    asked.clear()
    for seconds in (1, 1, 10, 1):
        clock[0] += seconds
        kept.do_if_due()
    assert asked == [3]


def test_a_runtime_that_cannot_follow_fails_no_batch(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "thread_share", lambda _: 2)
    runtime = Runtime()
    kept = made(runtime)
    runtime.fails = True
    for _ in range(3):
        clock[0] += 2
        kept.do_if_due()
    assert sum("taking its share of the cores failed" in each for each in caplog.messages) == 1
    runtime.fails = False
    clock[0] += 10
    kept.do_if_due()
    assert runtime.threads == [2, 2]


def test_a_share_that_cannot_be_found_out_fails_no_batch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(_: int) -> int:
        raise OSError("no /proc")

    monkeypatch.setattr(upkeep, "thread_share", unknown)
    made(Runtime())
    assert any("taking its share of the cores failed" in each for each in caplog.messages)


def test_memory_that_cannot_be_given_back_fails_no_batch(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> None:
        raise OSError("no malloc_trim")

    monkeypatch.setattr(WorkerMemory, "give_back_if_due", broken)
    kept = made(Runtime())
    clock[0] += 10
    kept.do_if_due()
    assert any("giving memory back failed" in each for each in caplog.messages)


def test_memory_is_given_back_when_the_model_is_loaded_and_in_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "_SECONDS_OF_A_PAUSE", 0.02)
    released = threading.Semaphore(0)

    class Keeping(Runtime):
        def release_memory(self) -> None:
            released.release()

    kept = made(Keeping())
    assert released.acquire(timeout=0)
    assert not released.acquire(timeout=0.1)  # a worker that has answered nothing holds nothing
    with kept.answering():
        assert not released.acquire(timeout=0.1)
    assert released.acquire(timeout=10)
    assert not released.acquire(timeout=0.1)
