"""What asks replicas, and what says whether one is well, without a Ray that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from d2serve.handlers.replies.reply import Reply
from d2serve.handlers.requests.request import DESCRIBE, Request
from d2serve.server.asgi.refusals import Overloaded, Refused
from d2serve.server.ray_serve import handles
from d2serve.server.ray_serve.handles import HandleAsk
from d2serve.server.ray_serve.replicas import ModelReplica


class Handle:
    """Stands for a deployment's handle; each call does the next of these things."""

    def __init__(self, *turns: Any) -> None:
        self.turns = list(turns)
        self.answer = self

    async def remote(self, _: Request) -> Reply:
        turn = self.turns.pop(0)
        if isinstance(turn, BaseException):
            raise turn
        if callable(turn):
            await turn()
            return Reply(b"waited")
        return Reply(turn)


def asked(*turns: Any) -> tuple[Reply, Handle]:
    handle = Handle(*turns)
    return asyncio.run(HandleAsk(handle)(Request(b"x"))), handle


def test_a_request_is_asked_again_once_where_its_replica_died() -> None:
    reply, handle = asked(ActorDiedError(), b"answered")
    assert (reply.body, handle.turns) == (b"answered", [])
    with pytest.raises(Refused) as refused:
        asked(ActorDiedError(), ActorDiedError(), b"never")
    assert (refused.value.status, refused.value.code) == (503, "unavailable")


def test_a_full_queue_is_said_and_not_asked_again() -> None:
    with pytest.raises(Overloaded):
        asked(BackPressureError(100, 100), b"never")
    with pytest.raises(Refused):
        asked(DeploymentUnavailableError.__new__(DeploymentUnavailableError), b"never")


def test_what_a_model_is_comes_from_memory_unless_it_is_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handles, "_STUCK_SECONDS", 0.05)

    async def run() -> None:
        let_go = asyncio.Event()
        ask = HandleAsk(Handle(b"described", let_go.wait))
        describe = Request(kind=DESCRIBE)
        assert (await ask(describe)).body == b"described"
        assert (await ask(describe)).body == b"described"  # not asked
        waiting = asyncio.create_task(ask(Request(b"x")))
        await asyncio.sleep(0.2)
        with pytest.raises(Refused):
            await ask(describe)
        let_go.set()
        assert (await waiting).body == b"waited"
        assert (await ask(describe)).body == b"described"

    asyncio.run(run())


class Model:
    """Stands for a detector."""

    def __init__(self, warm_up: Callable[[], None]) -> None:
        self.warm_up = warm_up


def lost() -> None:
    raise RuntimeError("the GPU is lost")


@pytest.mark.parametrize("has_failed", [False, True])
def test_a_replica_is_ill_where_its_program_fails_on_every_image(has_failed: bool) -> None:
    replica = ModelReplica.__new__(ModelReplica)
    replica._thread = ThreadPoolExecutor(1)
    replica._has_failed = has_failed
    replica._detector = Model(lost)  # type: ignore[assignment]
    if has_failed:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the GPU is lost"):
                asyncio.run(replica.check_health())
    else:  # it is not tried without a reason
        asyncio.run(replica.check_health())
    replica._detector = Model(lambda: None)  # type: ignore[assignment]
    asyncio.run(replica.check_health())
    assert not replica._has_failed
