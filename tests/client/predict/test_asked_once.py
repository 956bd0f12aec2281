"""Each fault raises its own type and was sent exactly once, over every protocol; only a full queue
is asked again, with pauses between, and without a deadline what was refused for one in vain
(test_deadlines.py).
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from d2serve.client.connection.retrying import Retry
from d2serve.client.errors import (
    BY_CODE,
    AuthorizationError,
    ClientError,
    MalformedReply,
    ModelFailed,
    ModelNotFound,
    NotConnected,
    RequestRejected,
    ServerFailed,
    ServerOverloaded,
    ServerUnavailable,
)
from tests.client.answers import (
    GARBAGE,
    GOOD,
    HANDLERS,
    TORCHSERVES,
    Answer,
    of_the_handler,
    silent_server,
)
from tests.client.protocols import QUICK, Protocol

FULL = TORCHSERVES["ServiceUnavailableException", 503]
RAISES: dict[tuple[str, int], type[ClientError]] = {
    ("InvalidKeyException", 400): AuthorizationError,
    ("BadRequestException", 400): RequestRejected,
    ("ModelNotFoundException", 404): ModelNotFound,
    ("ModelVersionNotFoundException", 404): ModelNotFound,
    ("no body", 413): RequestRejected,
    ("InternalServerException", 500): ServerFailed,
    ("InternalServerException", 503): ServerFailed,
    ("InternalServerException", 507): ServerFailed,
}


def fault(protocol: Protocol, answer: Answer, kind: type[ClientError]) -> Any:
    """What an answer raises, of exactly this type and after exactly one request."""
    with protocol.server(answer, GOOD) as asked:
        with pytest.raises(kind) as caught:
            protocol.client(asked.address).predict("m", b"image")
        assert type(caught.value) is kind
        assert len(asked.times) == 1
    return caught.value


@pytest.mark.parametrize("code", [each for each in HANDLERS if each != "deadline_exceeded"])
def test_what_the_handler_refuses(protocol: Protocol, code: str) -> None:
    error = fault(protocol, HANDLERS[code], BY_CODE[code])
    assert (error.code, error.message) == (code, "told")
    assert error.request_id == (None if protocol.is_grpc else "of-the-header")


@pytest.mark.parametrize("says", RAISES, ids=str)
def test_what_torchserve_refuses(protocol: Protocol, says: tuple[str, int]) -> None:
    fault(protocol, TORCHSERVES[says], RAISES[says])


def test_every_answer_of_torchserve_is_tested() -> None:
    assert set(TORCHSERVES) == {*RAISES, ("ServiceUnavailableException", 503)}


def test_the_id_of_a_request(protocol: Protocol) -> None:
    """The body tells it; of older archives the header does, which gRPC has not."""
    told = Answer(200, json.dumps({**json.loads(GOOD.body), "request_id": "of-the-body"}).encode())
    with protocol.server(told, GOOD) as asked:
        client = protocol.client(asked.address)
        first, second = client.predict("m", b"image"), client.predict("m", b"image")
    assert first.request_id == "of-the-body"
    assert second.request_id == (None if protocol.is_grpc else "of-the-header")
    assert first == second, "they answer the same"


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [(RequestRejected, "of_tomorrow", 422), (ModelFailed, "model_failed", 500)],
)
def test_the_id_of_a_request_that_failed(
    protocol: Protocol, kind: type[ClientError], code: str, status: int
) -> None:
    error = fault(protocol, of_the_handler(code, status, request_id="of-the-body"), kind)
    assert (error.code, error.request_id) == (code, "of-the-body")
    assert "request of-the-body" in str(error)


def test_a_server_side_error_of_a_newer_archive(protocol: Protocol) -> None:
    """gRPC has no status that would tell it from a 4xx."""
    kind = RequestRejected if protocol.is_grpc else ServerFailed
    assert "of_tomorrow" in str(fault(protocol, of_the_handler("of_tomorrow", 500), kind))


def test_an_answer_of_something_else(protocol: Protocol) -> None:
    fault(protocol, GARBAGE, MalformedReply)
    with protocol.server(GOOD) as asked:
        with pytest.raises(MalformedReply, match="no JPEG file"):
            protocol.client(asked.address).predict_picture("m", b"image", format="jpeg")
        assert len(asked.times) == 1


def test_an_answer_that_is_late(protocol: Protocol) -> None:
    """It may still be in the making."""
    with silent_server(hangs_up=False, grpc_frames=protocol.is_grpc) as asked:
        with pytest.raises(ServerUnavailable, match="did not answer") as caught:
            protocol.client(asked.address, timeout=1).predict("m", b"image")
        assert type(caught.value) is ServerUnavailable
        assert len(asked.times) == 1


def test_a_connection_that_is_lost(protocol: Protocol) -> None:
    """The image may be what ended the server."""
    with silent_server(hangs_up=True, grpc_frames=protocol.is_grpc) as asked:
        with pytest.raises(ServerUnavailable, match="No answer from") as caught:
            protocol.client(asked.address).predict("m", b"image")
        assert type(caught.value) is ServerUnavailable
        time.sleep(0.1)
        assert len(asked.times) == 1


def test_a_full_queue_is_asked_again_after_pauses(protocol: Protocol) -> None:
    retry = Retry(seconds=20, first_pause=0.1, longest_pause=0.2)
    with protocol.server(FULL, FULL, FULL, GOOD) as asked:
        assert protocol.client(asked.address, retry).predict("m", b"image").model == "m"
    pauses = [after - before for before, after in zip(asked.times, asked.times[1:])]
    assert len(pauses) == 3
    for pause, longest in zip(pauses, (0.1, 0.2, 0.2)):
        assert pause >= longest / 2


def test_a_queue_that_stays_full(protocol: Protocol) -> None:
    retry = Retry(seconds=1, first_pause=0.05, longest_pause=0.1)
    with protocol.server(FULL) as asked:
        with pytest.raises(ServerOverloaded):
            protocol.client(asked.address, retry).predict("m", b"image")
        assert 2 < len(asked.times) < 40


def test_nobody_at_the_address_is_asked_again_by_wish_alone(protocol: Protocol) -> None:
    waiting = Retry(seconds=1, first_pause=0.05, errors=(ServerOverloaded, NotConnected))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        for retry, shortest, longest in ((QUICK, 0, 15), (waiting, 0.3, 15)):
            began = time.monotonic()
            with pytest.raises(NotConnected):
                protocol.client(address, retry).predict("m", b"image")
            assert shortest <= time.monotonic() - began < longest
