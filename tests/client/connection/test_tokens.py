"""A token is read again for every attempt, and the event loop goes on while a file is read."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d2serve.client.connection.retrying import Retry
from d2serve.client.predict.async_client import AsyncD2ServeClient
from tests.client.answers import GOOD, TORCHSERVES, http_server
from tests.client.protocols import Protocol

FULL = TORCHSERVES["ServiceUnavailableException", 503]


def write_key(file: Path, key: str) -> None:
    file.with_suffix(".new").write_text(json.dumps({"inference": {"key": key}}))
    file.with_suffix(".new").replace(file)


def test_a_token_renewed_between_two_attempts_is_used(protocol: Protocol, tmp_path: Path) -> None:
    key_file = tmp_path / "key_file.json"
    write_key(key_file, "first")
    retry = Retry(seconds=20, first_pause=0.4, longest_pause=0.4)
    with protocol.server(FULL, GOOD) as asked:

        def renew() -> None:
            while not asked.headers:
                time.sleep(0.005)
            write_key(key_file, "second")

        renewing = threading.Thread(target=renew, daemon=True)
        renewing.start()
        protocol.client(asked.address, retry, key_file=key_file).predict("m", b"image")
        renewing.join()
    sent = [each["authorization"] for each in asked.headers]
    assert sent == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("what", ["image", "key_file"])
def test_a_slow_file_does_not_stop_the_event_loop(tmp_path: Path, what: str) -> None:
    """A pipe keeps its reader waiting until something is written to it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = b"image" if what == "image" else b'{"inference": {"key": "k"}}'
    settings: dict[str, Any] = {"token": "t"} if what == "image" else {"key_file": pipe}

    def write_later() -> None:
        time.sleep(0.5)
        pipe.write_bytes(content)

    async def ask(address: str) -> int:
        async with AsyncD2ServeClient(address, **settings) as client:
            image = pipe if what == "image" else b"image"
            asking = asyncio.ensure_future(client.predict("m", image))
            turns = 0
            while not asking.done():
                await asyncio.sleep(0.01)
                turns += 1
            assert asking.result().model == "m"
        return turns

    writing = threading.Thread(target=write_later, daemon=True)
    with http_server(GOOD) as asked:
        writing.start()
        turns = asyncio.run(ask(asked.address))
    writing.join()
    assert turns >= 10, "the event loop stood still while the file was read"


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
