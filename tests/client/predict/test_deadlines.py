"""Each attempt says until when its answer is waited for, unless that does harm."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from d2serve.client.connection.deadlines import Deadlines
from d2serve.client.errors import ClientError, DeadlineExceeded, InvalidOption
from tests.client.answers import GOOD, HANDLERS, TORCHSERVES, Answer, of_the_handler
from tests.client.protocols import Protocol

FULL = TORCHSERVES["ServiceUnavailableException", 503]
EXPIRED = HANDLERS["deadline_exceeded"]


def refusal(message: str) -> Answer:
    body = of_the_handler("invalid_option", 400).body.replace(b"told", message.encode())
    return Answer(400, body)


def test_each_attempt_has_its_own(protocol: Protocol) -> None:
    with protocol.server(FULL, FULL, GOOD) as asked:
        began = time.time()
        protocol.client(asked.address, timeout=9).predict("m", b"image", masks="none")
        ended = time.time()
    first, second, third = asked.deadlines
    assert None not in (first, second, third)
    assert began + 9 - 0.001 <= (first or 0) < (second or 0) < (third or 0) <= ended + 9.001


@pytest.mark.parametrize(
    "refused",
    [
        EXPIRED,  # by a server whose clock is ahead: here the time is not over
        refusal("Got the option deadline='1', expected until when the answer is waited for, in"),
        refusal("Got the option 'deadline', which does not exist. Options are score_thresh, masks"),
    ],
)
def test_what_is_refused_for_it_in_vain_is_asked_without(
    protocol: Protocol, refused: Answer
) -> None:
    with protocol.server(refused, GOOD) as asked:
        client = protocol.client(asked.address)
        client.predict("m", b"image")
        assert [each is None for each in asked.deadlines] == [False, True]
        if protocol.name != "async":  # of which the tests make a new one for each call
            client.predict("m", b"image")
            assert asked.deadlines[2] is None, "it does no harm twice"


def test_other_refusals_are_not_asked_again(protocol: Protocol) -> None:
    with protocol.server(refusal("Got the option masks='deadline', expected rle"), GOOD) as asked:
        with pytest.raises(InvalidOption):
            protocol.client(asked.address).predict("m", b"image")
        assert len(asked.deadlines) == 1


def test_a_proxy_that_gives_less_time_is_believed_the_second_time(protocol: Protocol) -> None:
    with protocol.server(EXPIRED) as asked:
        with pytest.raises(DeadlineExceeded, match=r"too late \(.*deadline_exceeded.*\): told"):
            protocol.client(asked.address).predict("m", b"image")
        assert len(asked.deadlines) == 2


def test_nobody_waits_for_more_than_a_day(protocol: Protocol) -> None:
    with protocol.server(GOOD) as asked:
        protocol.client(asked.address, timeout=86_401).predict("m", b"image")
        assert asked.deadlines == [None]


def test_a_header_of_the_users_own_holds() -> None:
    protocol = Protocol("http")
    with protocol.server(GOOD) as asked:
        headers = {"X-Request-Deadline": "1790000000"}
        protocol.client(asked.address, headers=headers).predict("m", b"image")
        assert asked.deadlines == [1_790_000_000]
    protocol.close()


class Late:
    """A server that answers when the client's time is over."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, deadline: str | None) -> str:
        self.asked.append(deadline)
        time.sleep(0.06)
        raise DeadlineExceeded("told", code="deadline_exceeded", status=504)

    async def asynchronous(self, deadline: str | None) -> str:
        return self(deadline)


def test_what_is_late_by_our_own_clock_is_an_error() -> None:
    late = Late()
    with pytest.raises(ClientError):
        Deadlines(0.05).call(late)
    with pytest.raises(ClientError):
        asyncio.run(Deadlines(0.05).call_async(late.asynchronous))
    assert len(late.asked) == 2
