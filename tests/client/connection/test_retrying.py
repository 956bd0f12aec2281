"""What is asked again, how often, and what is not."""

from __future__ import annotations

import asyncio

import pytest

from d2serve.client.connection.retrying import NO_RETRY, Retry
from d2serve.client.errors import ClientError, NotConnected, ServerFailed, ServerOverloaded
from d2serve.client.predict.http_client import D2ServeClient

QUICK = Retry(seconds=5, first_pause=0.001, longest_pause=0.01)


class Server:
    """Fails so often, then answers."""

    def __init__(self, failures: int, error: ClientError) -> None:
        self.failures, self.error, self.asked = failures, error, 0

    def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self.failures:
            raise self.error
        return "answer"

    async def asynchronous(self) -> str:
        return self()


def test_an_overloaded_server_is_asked_until_it_answers() -> None:
    server = Server(5, ServerOverloaded("full"))
    assert QUICK.call(server) == "answer"
    assert server.asked == 6
    server = Server(5, ServerOverloaded("full"))
    assert asyncio.run(QUICK.call_async(server.asynchronous)) == "answer"
    assert server.asked == 6


@pytest.mark.parametrize("error", [ServerFailed("worker died"), NotConnected("nobody")])
def test_what_may_have_begun_or_is_not_asked_for_is_not_repeated(error: ClientError) -> None:
    server = Server(1, error)
    with pytest.raises(type(error)):
        QUICK.call(server)
    assert server.asked == 1


def test_it_gives_up_with_the_last_error_in_time() -> None:
    server = Server(10**6, ServerOverloaded("full"))
    with pytest.raises(ServerOverloaded):
        Retry(seconds=0.2, first_pause=0.01, longest_pause=0.05).call(server)
    assert 4 < server.asked < 40
    server = Server(1, ServerOverloaded("full"))
    with pytest.raises(ServerOverloaded):
        NO_RETRY.call(server)
    assert server.asked == 1


def test_pauses_double_up_to_the_longest() -> None:
    pauses = Retry(seconds=1e9, first_pause=1, longest_pause=4).pauses()
    for longest in (1, 2, 4, 4, 4):
        assert longest / 2 <= next(pauses) <= longest


def test_where_nobody_listens_nothing_was_sent() -> None:
    with D2ServeClient("127.0.0.1:1") as client, pytest.raises(NotConnected):
        client.predict("m", b"x")
