"""A token is read again for every attempt and when it was refused, also while the key file is being
written, and the event loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d2serve.client.connection.retrying import Retry
from d2serve.client.errors import AuthorizationError
from d2serve.client.management import ManagementClient
from d2serve.client.predict.async_client import AsyncD2ServeClient
from d2serve.client.predict.http_client import D2ServeClient
from tests.client.answers import GOOD, TORCHSERVES, Answer, Requests, http_server
from tests.client.protocols import Protocol

FULL = TORCHSERVES["ServiceUnavailableException", 503]
REFUSED = TORCHSERVES["InvalidKeyException", 400]


def write_key(file: Path, key: str) -> None:
    keys = {kind: {"key": key} for kind in ("inference", "management")}
    file.with_suffix(".new").write_text(json.dumps(keys))
    file.with_suffix(".new").replace(file)


@contextmanager
def renewed_when_asked(asked: Requests, key_file: Path, delay: float = 0) -> Iterator[None]:
    """The first request finds the key "first", and as soon as it has come there is a "second"."""
    write_key(key_file, "first")

    def renew() -> None:
        while not asked.headers:
            time.sleep(0.005)
        time.sleep(delay)
        write_key(key_file, "second")

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    yield
    renewing.join()


def sent(asked: Requests) -> list[str]:
    return [each["authorization"].removeprefix("Bearer ") for each in asked.headers]


def test_a_token_renewed_between_two_attempts_is_used(protocol: Protocol, tmp_path: Path) -> None:
    key_file = tmp_path / "key_file.json"
    retry = Retry(seconds=20, first_pause=0.4, longest_pause=0.4)
    with protocol.server(FULL, GOOD) as asked, renewed_when_asked(asked, key_file):
        protocol.client(asked.address, retry, key_file=key_file).predict("m", b"image")
    assert sent(asked) == ["first", "second"]


@pytest.mark.parametrize("delay", [0, 0.5], ids=["at once", "written a little later"])
def test_a_token_renewed_on_the_way_is_asked_with_once_more(
    protocol: Protocol, tmp_path: Path, delay: float
) -> None:
    """TorchServe takes a new token into use, and writes it then."""
    key_file = tmp_path / "key_file.json"
    with protocol.server(REFUSED, GOOD) as asked, renewed_when_asked(asked, key_file, delay):
        protocol.client(asked.address, key_file=key_file).predict("m", b"image")
    assert sent(asked) == ["first", "second"]


def test_a_new_token_that_is_refused_is_the_last(protocol: Protocol, tmp_path: Path) -> None:
    key_file = tmp_path / "key_file.json"
    with protocol.server(REFUSED) as asked, renewed_when_asked(asked, key_file):
        client = protocol.client(asked.address, key_file=key_file)
        with pytest.raises(AuthorizationError):
            client.predict("m", b"image")
    assert sent(asked) == ["first", "second"]


def test_the_same_token_is_not_sent_twice(protocol: Protocol, tmp_path: Path) -> None:
    key_file = tmp_path / "key_file.json"
    write_key(key_file, "only")
    with protocol.server(REFUSED) as asked:
        client = protocol.client(asked.address, key_file=key_file)
        with pytest.raises(AuthorizationError, match="belongs to another server"):
            client.predict("m", b"image")
    assert sent(asked) == ["only"]


def test_a_token_given_as_text_fails_at_once(protocol: Protocol) -> None:
    with protocol.server(REFUSED, GOOD) as asked:
        client = protocol.client(asked.address)
        began = time.monotonic()
        with pytest.raises(AuthorizationError, match=r"key_file\.json in its place"):
            client.predict("m", b"image")
        assert time.monotonic() - began < 1
    assert sent(asked) == ["t"]


def test_a_ping_and_a_request_to_manage_are_asked_once_more(tmp_path: Path) -> None:
    key_file = tmp_path / "key_file.json"
    healthy = Answer(200, b'{"status": "Healthy"}')
    with (
        http_server(REFUSED, healthy) as asked,
        renewed_when_asked(asked, key_file),
        D2ServeClient(asked.address, key_file=key_file) as client,
    ):
        assert client.ping() == "Healthy"
    assert sent(asked) == ["first", "second"]
    with http_server(REFUSED, healthy) as asked, renewed_when_asked(asked, key_file):

        async def ping() -> str:
            async with AsyncD2ServeClient(asked.address, key_file=key_file) as client:
                return await client.ping()

        assert asyncio.run(ping()) == "Healthy"
    assert sent(asked) == ["first", "second"]
    with (
        http_server(REFUSED, Answer(200, b'{"models": []}')) as asked,
        renewed_when_asked(asked, key_file),
        ManagementClient(asked.address, key_file=key_file) as managing,
    ):
        assert managing.list_models() == {}
    assert sent(asked) == ["first", "second"]


@pytest.mark.parametrize("half", ["", '{"inference": {"key": "fir', '{\n  "management": {'])
def test_a_key_file_that_is_being_written_is_read_again(tmp_path: Path, half: str) -> None:
    key_file = tmp_path / "key_file.json"
    key_file.write_text(half)

    def write() -> None:
        time.sleep(0.2)
        write_key(key_file, "whole")

    writing = threading.Thread(target=write, daemon=True)
    with http_server(GOOD) as asked, D2ServeClient(asked.address, key_file=key_file) as client:
        writing.start()
        client.predict("m", b"image")
    writing.join()
    assert sent(asked) == ["whole"]


@pytest.mark.parametrize("what", ["image", "key_file"])
def test_a_slow_file_does_not_stop_the_event_loop(tmp_path: Path, what: str) -> None:
    """A pipe keeps its reader waiting until something is written to it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = b"image" if what == "image" else b'{"inference": {"key": "k"}}'
    settings: dict[str, Any] = {"token": "t"} if what == "image" else {"key_file": pipe}

    turned, seen = threading.Event(), []

    def write_later() -> None:
        seen.append(turned.wait(5))
        pipe.write_bytes(content)

    async def ask(address: str) -> None:
        async with AsyncD2ServeClient(address, **settings) as client:
            image = pipe if what == "image" else b"image"
            asking = asyncio.ensure_future(client.predict("m", image))
            turns = 0
            while not asking.done():
                await asyncio.sleep(0.01)
                turns += 1
                if turns == 10:
                    turned.set()
            assert asking.result().model == "m"

    writing = threading.Thread(target=write_later, daemon=True)
    with http_server(GOOD) as asked:
        writing.start()
        asyncio.run(ask(asked.address))
    writing.join()
    assert seen == [True], "the event loop stood still while the file was read"


class Watched(Image.Image):
    """Notes the threads in which it is encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[threading.Thread] = []
        self.im, self._size = Image.new("L", (4, 4)).im, (4, 4)
        self._mode = "L"

    def getexif(self) -> Image.Exif:
        self.seen.append(threading.current_thread())
        return super().getexif()


def test_pixels_are_encoded_beside_the_event_loop() -> None:
    image = Watched()

    async def ask(address: str) -> None:
        async with AsyncD2ServeClient(address, token="t") as client:
            await client.predict("m", image)

    with http_server(GOOD) as asked:
        asyncio.run(ask(asked.address))
    assert image.seen
    assert threading.current_thread() not in image.seen
    assert np.asarray(image).shape == (4, 4)
