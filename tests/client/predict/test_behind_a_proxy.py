"""What deploy/nginx.conf says itself raises the error that it stands for, over every protocol."""

from __future__ import annotations

import grpc
import pytest

from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.errors import AuthorizationError, ServerOverloaded, ServerUnavailable
from tests.client.answers import GOOD, Answer, of_the_handler
from tests.client.protocols import Protocol


def of_the_proxy(status: int, code: str, over_grpc: grpc.StatusCode, details: str) -> Answer:
    return Answer(status, of_the_handler(code, status).body, over_grpc, details)


UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
NO_KEY = of_the_proxy(401, "unauthorized", grpc.StatusCode.UNAUTHENTICATED, "told")
TOO_MANY = of_the_proxy(429, "too_many_requests", UNAVAILABLE, "nothing was begun, told")
GONE = of_the_proxy(503, "unavailable", UNAVAILABLE, "told")
LATE = of_the_proxy(504, "too_late", UNAVAILABLE, "told")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(NO_KEY, AuthorizationError), (GONE, ServerUnavailable), (LATE, ServerUnavailable)],
    ids=["no key", "gone", "late"],
)
def test_what_is_not_asked_again(protocol: Protocol, answer: Answer, kind: type[Exception]) -> None:
    with protocol.server(answer, GOOD) as asked:
        with pytest.raises(kind, match="told") as caught:
            protocol.client(asked.address).predict("m", b"image")
        assert type(caught.value) is kind
        assert len(asked.times) == 1


def test_what_it_did_not_pass_on_is_asked_again(protocol: Protocol) -> None:
    with protocol.server(TOO_MANY, GOOD) as asked:
        assert protocol.client(asked.address).predict("m", b"image").model == "m"
    with (
        protocol.server(TOO_MANY) as asked,
        pytest.raises(ServerOverloaded, match=r"did not pass this on: .*told"),
    ):
        protocol.client(asked.address, NO_RETRY).predict("m", b"image")
