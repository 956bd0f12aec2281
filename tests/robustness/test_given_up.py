"""Clients that give up: what nobody waits for is not computed, so that the next one need not wait.

TorchServe answers what is in its queue all the same, and its own setting against that,
``clientTimeoutInMills``, lets clients hang: docs/operating.md.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.errors import DeadlineExceeded, ServerUnavailable
from d2serve.client.predict.grpc_client import D2ServeGrpcClient
from d2serve.client.predict.http_client import D2ServeClient
from tests.client.blocking import AnyClient, BlockingAsyncClient
from tests.handlers.samples import picture, saved
from tests.robustness.grpc_calls import GrpcCalls
from tests.robustness.sending import Sender, grey, refusal

pytestmark = pytest.mark.server

CLIENTS = 30
HEADER = "X-Request-Deadline"


def slow_picture() -> bytes:
    """A small file that takes a second to decode: a JPEG in many scans."""
    data = saved(picture(64, 48).resize((4000, 3900)), "JPEG", progressive=True, quality=1)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * 8 + data[-2:]


SLOW = slow_picture()


def by(seconds: float) -> str:
    """The deadline in so many seconds."""
    return f"{time.time() + seconds:.3f}"


@pytest.fixture(params=["http", pytest.param("async", marks=pytest.mark.long), "grpc"])
def hasty(sender: Sender, request: pytest.FixtureRequest) -> Iterator[AnyClient]:
    """One of our clients, which waits for a second."""
    server = sender.server
    settings: dict[str, Any] = {"key_file": server.key_file, "timeout": 1, "retry": NO_RETRY}
    if request.param == "async":
        yield BlockingAsyncClient(server.inference_address, **settings)
        return
    kind, address = (
        (D2ServeClient, server.inference_address)
        if request.param == "http"
        else (D2ServeGrpcClient, server.grpc_address)
    )
    with kind(address, **settings) as client:
        yield client


def test_thirty_that_give_up_cost_the_next_one_a_picture_or_two(
    sender: Sender, hasty: AnyClient
) -> None:
    began = time.monotonic()
    assert sender.image(SLOW, "ground").status_code == 200
    alone = time.monotonic() - began
    all_there = threading.Barrier(CLIENTS)

    def ask(_: int) -> type[Exception] | None:
        all_there.wait(30)
        try:
            hasty.predict("ground", SLOW)
        except (ServerUnavailable, DeadlineExceeded) as error:
            return type(error)
        return None

    with ThreadPoolExecutor(CLIENTS) as pool:
        outcomes = list(pool.map(ask, range(CLIENTS)))
    began = time.monotonic()
    assert sender.image(grey(51), "ground").status_code == 200
    waited = time.monotonic() - began
    assert outcomes.count(None) < CLIENTS / 3, "they were served in time: take a slower picture"
    assert waited < 2 * alone + 1, (waited, alone)


def test_every_way_to_say_it(sender: Sender) -> None:
    text = base64.b64encode(grey(51)).decode()
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
    infer = "/v2/models/shapes/infer"
    ways: dict[str, Callable[[str], httpx.Response]] = {
        "header": lambda when: sender.image(grey(51), **{HEADER: when}),
        "header, of an option": lambda when: sender.image(grey(51), **{"X-D2serve-deadline": when}),
        "a proxy's sum": lambda when: sender.image(grey(51), **{HEADER: f"{float(when) - 9}+9"}),
        "form": lambda when: sender.form(grey(51), deadline=when, masks="none"),
        "JSON": lambda when: sender.post(json={"image": text, "deadline": float(when)}),
        "parameter": lambda when: sender.post(
            infer, json={"inputs": [image], "parameters": {"deadline": float(when)}}
        ),
        "header of the protocol": lambda when: sender.post(
            infer, json={"inputs": [image]}, headers={HEADER: when}
        ),
    }
    for way, ask in ways.items():
        assert ask(by(60)).status_code == 200, way
        late = ask(by(-3))
        assert late.status_code == 504, way
        assert "deadline_exceeded" in late.text, way
        assert "was over 3." in late.text, way


def test_over_grpc(sender: Sender) -> None:
    """Its own deadline is TorchServe's alone, which goes on; the handler gets an input."""
    calls = GrpcCalls(sender.server)
    for ask in (calls.predict, lambda **inputs: calls.stream(**inputs)[0]):
        assert ask(data=grey(51), deadline=by(60).encode())["instances"]
        late = ask(data=grey(51), deadline=by(-3).encode())
        assert late["error"]["code"] == "deadline_exceeded"
    assert calls.infer(grey(51), deadline=by(60).encode())["instances"]
    late = calls.infer(grey(51), deadline=by(-3).encode())
    assert late["error"]["code"] == "deadline_exceeded"


def test_one_of_a_batch(sender: Sender) -> None:
    def ask(seconds: float) -> int:
        return sender.image(grey(51), **{HEADER: by(seconds)}).status_code

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, (60, -1, 60, -1))) == [200, 504, 200, 504]


@pytest.mark.parametrize("value", ["", "30", "1e12", "soon", "1790000000000"])
def test_what_is_no_time(sender: Sender, value: str) -> None:
    message = refusal(sender.image(grey(51), **{HEADER: value}), 400, "invalid_option")
    assert "seconds since 1970" in message
