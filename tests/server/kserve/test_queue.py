"""Requests wait in one queue beside the event loop: who is asked together, and who not at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from d2serve.handlers.replies.reply import Reply
from d2serve.handlers.requests.request import Request
from d2serve.server.asgi.refusals import Overloaded
from d2serve.server.kserve.queue import MOST_WAITING, Queue


class Slow:
    """A model that answers once it is let, with the number of images that it was asked for."""

    def __init__(self, together: int) -> None:
        self.together = together
        self.let = threading.Event()
        self.asked: list[list[str | None]] = []

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        self.let.wait(10)
        self.asked.append([each.id for each in requests])
        if any(each.id == "bad" for each in requests):
            raise ValueError("bad")
        return [Reply(b"", request_id=each.id) for each in requests]


def ask(queue: Queue, model: Slow, *ids: str) -> list[asyncio.Task[Reply]]:
    return [asyncio.ensure_future(queue.ask(model, Request(id=each))) for each in ids]


async def answered(tasks: list[asyncio.Task[Reply]]) -> list[str | None]:
    return [(await each).request_id for each in tasks]


@pytest.mark.parametrize(("together", "calls"), [(1, 5), (2, 3), (8, 2)])
def test_what_came_meanwhile_is_asked_together(together: int, calls: int) -> None:
    async def run() -> None:
        queue, model = Queue(1), Slow(together)
        tasks = ask(queue, model, "0", "1", "2", "3", "4")
        await asyncio.sleep(0.05)
        model.let.set()
        assert await answered(tasks) == ["0", "1", "2", "3", "4"]
        assert len(model.asked) == calls
        assert model.asked[0] == ["0"]
        assert [each for some in model.asked for each in some] == ["0", "1", "2", "3", "4"]

    asyncio.run(run())


def test_models_do_not_share_a_call() -> None:
    async def run() -> None:
        queue, model, other = Queue(1), Slow(8), Slow(8)
        tasks = ask(queue, model, "0", "1") + ask(queue, other, "2") + ask(queue, model, "3")
        await asyncio.sleep(0.05)
        model.let.set()
        other.let.set()
        assert await answered(tasks) == ["0", "1", "2", "3"]
        assert (model.asked, other.asked) == ([["0"], ["1", "3"]], [["2"]])

    asyncio.run(run())


def test_who_has_gone_is_not_asked() -> None:
    async def run() -> None:
        queue, model = Queue(1), Slow(1)
        first, gone, last = ask(queue, model, "0", "1", "2")
        await asyncio.sleep(0.05)
        gone.cancel()
        first.cancel()  # too late: it is being answered
        model.let.set()
        assert (await last).request_id == "2"
        assert model.asked == [["0"], ["2"]]

    asyncio.run(run())


def test_an_error_is_its_callers_and_the_next_one_is_answered() -> None:
    async def run() -> None:
        queue, model = Queue(1), Slow(1)
        model.let.set()
        bad, good = ask(queue, model, "bad", "good")
        with pytest.raises(ValueError, match="bad"):
            await bad
        assert (await good).request_id == "good"

    asyncio.run(run())


def test_only_so_many_wait() -> None:
    async def run() -> None:
        queue, model = Queue(2), Slow(1)
        tasks = ask(queue, model, *map(str, range(MOST_WAITING + 2)))
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded):
            await queue.ask(model, Request(id="too many"))
        model.let.set()
        assert len(await answered(tasks)) == MOST_WAITING + 2

    asyncio.run(run())
