"""When a version counts as idle; a real server's is in tests/faults/test_draining.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from d2serve.client import draining
from d2serve.client.draining import Drain, Load
from d2serve.client.errors import (
    ModelNotFound,
    RequestRejected,
    ServerFailed,
    ServerOverloaded,
    ServerUnavailable,
)
from d2serve.client.model_descriptions import ModelDescription, parse_description

STEADY, GRACE = 0.2, 0.6


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(draining, "STEADY_SECONDS", STEADY)
    monkeypatch.setattr(draining, "GRACE_SECONDS", GRACE)


def version(workers: str = "READY READY", waiting: int = 0) -> ModelDescription:
    about = {"pid": 1, "gpu": False, "memoryUsage": 0}
    return parse_description(
        {
            "modelName": "m",
            "modelVersion": "1.0",
            "modelUrl": "m.mar",
            "minWorkers": 1,
            "maxWorkers": 1,
            "batchSize": 1,
            "maxBatchDelay": 100,
            "jobQueueStatus": {"remainingCapacity": 100, "pendingRequests": waiting},
            "workers": [
                {"id": str(i), "status": s, **about} for i, s in enumerate(workers.split())
            ],
        }
    )


class Server:
    """Gives one description after the other, and one answer of the handler; the last ones stay."""

    def __init__(self, *described: ModelDescription, says: Any = None) -> None:
        self.described = list(described)
        self.says = says if isinstance(says, list) else [says]
        self.asked = 0

    def describe(self, _name: str, _version: str | None = None) -> list[ModelDescription]:
        return [self.described.pop(0) if len(self.described) > 1 else self.described[0]]

    def metadata(
        self, _name: str, _version: str | None = None, *, timeout: float | None = None
    ) -> Any:
        assert timeout is not None
        self.asked += 1
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, Exception):
            raise said
        return said


def waited(server: Server, seconds: float = 5.0) -> tuple[bool, float]:
    began = time.monotonic()
    is_idle = Drain(server, seconds).wait(lambda: [("m", None)])
    return is_idle, time.monotonic() - began


def knows(busy: int, others: int = 1) -> dict[str, Any]:
    return {"name": "m", "workers": {"others": others, "busy": busy}}


def test_a_version_at_rest_is_idle_soon() -> None:
    is_idle, seconds = waited(Server(version(), says=knows(0)))
    assert is_idle
    assert STEADY <= seconds < GRACE


@pytest.mark.parametrize(
    "server",
    [
        lambda: Server(version(waiting=2), says=knows(0)),
        lambda: Server(version(), says=knows(1)),
        lambda: Server(version(), says=ServerUnavailable("all are busy, so it was not answered")),
        lambda: Server(version(), says=ServerOverloaded("no worker")),
        lambda: Server(version(), says=[knows(0), knows(1)] * 1000),
    ],
    ids=["queue", "worker", "every worker", "worker died", "never for long"],
)
def test_one_at_work_is_not(server: Callable[[], Server]) -> None:
    is_idle, seconds = waited(server(), seconds=1.0)
    assert not is_idle
    assert seconds == pytest.approx(1.0, abs=0.3)


def test_nothing_is_asked_of_the_handler_while_requests_wait() -> None:
    """The question is one more of them."""
    server = Server(version(waiting=1), says=knows(0))
    waited(server, seconds=0.3)
    assert server.asked == 0


@pytest.mark.parametrize(
    "says",
    [
        None,
        {"name": "m"},
        {"name": "m", "workers": 3},
        "text",
        knows(0, others=0),
        ServerFailed("raised"),
        RequestRejected("no image", code="empty_request", status=400),
    ],
    ids=["nothing", "older", "odd", "text", "one worker has no mark", "raises", "refuses"],
)
def test_where_nobody_knows_the_queue_stays_empty_for_longer(says: Any) -> None:
    server = Server(version(), says=says)
    is_idle, seconds = waited(server)
    assert is_idle
    assert seconds >= GRACE
    assert server.asked == 1, "it is not asked in vain again and again"


def test_the_answer_of_the_only_worker_says_enough() -> None:
    is_idle, seconds = waited(Server(version("READY"), says=None))
    assert is_idle
    assert seconds < GRACE


@pytest.mark.parametrize(
    "described", [version("", waiting=3), version("UNLOADING")], ids=["none", "not ready"]
)
def test_without_workers_nobody_is_waited_for(described: ModelDescription) -> None:
    server = Server(described, says=ServerUnavailable("nobody answers"))
    assert waited(server)[0]
    assert server.asked == 0


def test_a_version_that_is_removed_meanwhile_is_idle() -> None:
    assert waited(Server(version(), says=ModelNotFound("gone")))[0]


def test_work_is_counted() -> None:
    loads: list[Load] = []
    server = Server(version(waiting=3), version(), version(), says=[knows(1), knows(0)])
    assert Drain(server, 5.0, loads.append).wait(lambda: [("m", None)])
    assert loads[:3] == [Load(3, 2), Load(0, 1), Load(0, 0)]
