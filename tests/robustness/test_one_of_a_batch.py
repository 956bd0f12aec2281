"""One damaged request of eight in a batch, again and again: the others' answers stay bit by bit."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import httpx
import pytest

from tests.handlers.samples import picture, saved
from tests.robustness.conftest import BATCH
from tests.robustness.sending import Sender
from tests.robustness.test_bombs_and_addresses import png, webp

pytestmark = pytest.mark.server

# TorchServe's id of a request, which no two replies share.
REQUEST_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BYTES = {"content-type": "application/octet-stream"}
_JSON = {"content-type": "application/json"}

Request = tuple[bytes, dict[str, str]]
"""A body and its headers."""


def images() -> list[bytes]:
    """As many as a batch holds, each of another size and content."""
    formats = ("PNG", "JPEG", "WEBP", "BMP")
    return [
        saved(picture(30 + 7 * i, 20 + 5 * i, seed=i), formats[i % len(formats)])
        for i in range(BATCH)
    ]


def form(image: bytes, **options: str) -> Request:
    made = httpx.Request("POST", "http://x", files={"data": image}, data=options)
    return made.read(), {"content-type": made.headers["content-type"]}


def damaged(image: bytes, random: Random) -> tuple[Request, int]:
    """Something to be refused in the place of an image, and the status of its refusal."""
    text = base64.b64encode(image).decode()
    kinds: list[tuple[Request, int]] = [
        ((image[: random.randrange(20, len(image) // 2)], _BYTES), 400),
        ((b"", _BYTES), 400),
        ((random.randbytes(500), _BYTES), 415),
        ((bytes(500), _BYTES), 415),
        ((saved(picture(8, 8), "PPM"), _BYTES), 415),
        ((png(65535, 65535), _BYTES), 413),
        ((webp("VP8X"), _BYTES), 413),
        ((image + bytes(34_000_000), _BYTES), 413)
        if random.random() < 0.1
        else ((b"", _BYTES), 400),
        (form(image, masks="some"), 400),
        (form(image, colour="red"), 400),
        ((image, {**_BYTES, "X-D2serve-max-detections": "0"}), 400),
        ((f'{{"image": "{text}", "classes": "nobody"}}'.encode(), _JSON), 400),
        ((b'{"image": 5}', _JSON), 400),
    ]
    return random.choice(kinds)


def ask_at_once(sender: Sender, pool: ThreadPoolExecutor, asked: Sequence[Request]) -> list[bytes]:
    """Replies, without the ids of the requests, behind their status."""

    def ask(request: Request) -> bytes:
        response = sender.post(content=request[0], headers=request[1])
        return b"%d %s" % (response.status_code, REQUEST_ID.sub(b"", response.content))

    return list(pool.map(ask, asked))


def at_once(reply: bytes) -> bytes:
    """How many images the program was given together, which it answers as the class."""
    (found,) = re.findall(rb'"category_name":"(\d+) at once"', reply)
    return bytes(found)


@pytest.mark.parametrize("rounds", [3 * BATCH, pytest.param(200, marks=pytest.mark.long)])
def test_the_others_answers_are_the_same_without_it(rounds: int, sender: Sender) -> None:
    random, whole, splits = Random(0), images(), 0
    together = b"%d" % (BATCH - 1)
    with ThreadPoolExecutor(BATCH) as pool:
        # Without it: each image among others that are all answered, seven at once.
        alone: dict[int, bytes] = {}
        for left_out in (0, 1):
            those = [i for i in range(BATCH) if i != left_out]
            replies = ask_at_once(sender, pool, [(whole[i], _BYTES) for i in those])
            assert {at_once(reply) for reply in replies} == {together}
            alone.update(zip(those, replies))
        seen = set()
        for number in range(rounds):
            place = number % BATCH
            while True:
                bad, status = damaged(whole[place], random)
                asked: list[Request] = [(image, _BYTES) for image in whole]
                asked[place] = bad
                replies = ask_at_once(sender, pool, asked)
                refused = replies.pop(place)
                assert refused.startswith(b"%d {" % status), refused[:300]
                seen.add(refused.partition(b'"message"')[0])
                expected = [alone[i] for i in range(BATCH) if i != place]
                if {at_once(reply) for reply in replies} == {together}:
                    break
                splits += 1  # one of them came too late for the batch: asked again
                assert splits < rounds // 4
            assert replies == expected
    assert len(seen) >= 5, "codes of refusals"
