"""What is due comes in a pause, once, and never beside an answer."""

from __future__ import annotations

import threading
import time

from d2serve.handlers.torchserve.pauses import Pauses


def test_it_comes_once_in_each_pause_and_not_between_answers() -> None:
    came = threading.Semaphore(0)
    pauses = Pauses(came.release, 0.2)
    for _ in range(5):  # longer than the pause in all
        with pauses.answering():
            time.sleep(0.06)
    assert not came.acquire(timeout=0)
    assert came.acquire(timeout=10)
    assert not came.acquire(timeout=0.4)
    with pauses.answering():
        pass
    assert came.acquire(timeout=10)


def test_it_waits_for_an_answer_and_for_the_pause_after_it() -> None:
    came = threading.Semaphore(0)
    pauses = Pauses(came.release, 0.05)
    with pauses.answering():
        pass
    with pauses.answering():  # longer than a pause
        assert not came.acquire(timeout=0.3)
    assert came.acquire(timeout=10)


def test_an_answer_waits_for_it() -> None:
    begun, end = threading.Event(), threading.Event()

    def due() -> None:
        begun.set()
        end.wait(10)
        done.append("due")

    done: list[str] = []
    pauses = Pauses(due, 0.01)
    with pauses.answering():
        pass
    assert begun.wait(10)
    threading.Timer(0.1, end.set).start()
    with pauses.answering():
        done.append("answer")
    assert done == ["due", "answer"]


def test_an_answer_that_fails_is_followed_by_a_pause() -> None:
    came = threading.Semaphore(0)
    pauses = Pauses(came.release, 0.01)
    try:
        with pauses.answering():
            raise ValueError
    except ValueError:
        pass
    assert came.acquire(timeout=10)
