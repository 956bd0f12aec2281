"""A compressed body is read as the body that it was, within bounds, or refused by name."""

from __future__ import annotations

import base64
import gzip
import json
import resource
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2serve.handlers.errors import (
    ImageTooLarge,
    InvalidImage,
    RequestError,
    UnsupportedImageFormat,
)
from d2serve.handlers.requests.request import HTTP, INFER, PREDICT, Call, Request, classify
from d2serve.handlers.service import Service
from d2serve.handlers.spec.limits import RequestLimits
from tests.handlers.samples import cases, picture, saved

IMAGE = saved(picture(30, 20), "PNG")
JSON = json.dumps({"image": base64.b64encode(IMAGE).decode(), "masks": "none"}).encode()
TENSOR = {"name": "image", "datatype": "UINT8", "shape": [2, 3, 3]}
INPUTS = json.dumps({"inputs": [{**TENSOR, "parameters": {"binary_data_size": 18}}]}).encode()


def raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(9, zlib.DEFLATED, -15)
    return made.compress(data) + made.flush()


WAYS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-Gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("Deflate", raw_deflate),
    "identity": ("identity", bytes),
}


def classified(body: Any, encoding: str, limits: RequestLimits | None = None, **more: str) -> Call:
    headers = {"content-encoding": encoding, **{k.replace("_", "-"): v for k, v in more.items()}}
    return classify(Request(body, headers=headers, transport=HTTP), limits or RequestLimits())


def refusal(body: Any, encoding: str, limits: RequestLimits | None = None) -> RequestError:
    refused = classified(body, encoding, limits).refused
    assert refused is not None
    assert str(refused).isprintable()
    return refused


@pytest.mark.parametrize("way", WAYS)
def test_an_image_and_json(scripted_archive: Path, way: str) -> None:
    service = Service.open(scripted_archive)
    encoding, compress = WAYS[way]
    headers = {"Content-Encoding": encoding}
    for body in (IMAGE, JSON):
        plain, packed = Request(body), Request(bytearray(compress(body)), headers=headers)
        assert service.reply(packed).body == service.reply(plain).body
        assert service.reply(packed).status == 200


@pytest.mark.parametrize("way", WAYS)
def test_the_length_of_the_json_counts_in_what_was_unpacked(way: str) -> None:
    encoding, compress = WAYS[way]
    body, length = compress(INPUTS + bytes(18)), str(len(INPUTS))
    call = classified(body, encoding, Inference_Header_Content_Length=length)
    assert (call.kind, call.refused) == (INFER, None)
    assert bytes(call.contents) == bytes(18)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, deflate", "compress", "naïve"])
def test_others_are_refused_by_name(encoding: str) -> None:
    error = refusal(b"\x8b\x02\x80", encoding)
    assert isinstance(error, UnsupportedImageFormat)
    assert f"Content-Encoding {encoding!a}, expected gzip, deflate or none" in str(error)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (IMAGE, "cannot be unpacked"),
        (b"", "ends too early"),
        ({"image": "AAAA"}, "not compressed"),
        ("text", "not compressed"),
        (None, "not compressed"),
    ],
)
def test_what_is_not_compressed(body: Any, words: str, encoding: str) -> None:
    error = refusal(body, encoding)
    assert isinstance(error, InvalidImage)
    assert words in str(error)


def test_what_is_cut_off_or_goes_on() -> None:
    packed = gzip.compress(IMAGE)
    assert "ends too early" in str(refusal(packed[:-9], "gzip"))
    assert "goes on behind its end" in str(refusal(packed * 2, "gzip"))
    damaged = packed[:-6] + b"\0" + packed[-5:]
    assert "cannot be unpacked" in str(refusal(damaged, "gzip"))


def test_a_compressed_body_without_the_header_is_named(scripted_archive: Path) -> None:
    reply = Service.open(scripted_archive).reply(Request(gzip.compress(IMAGE)))
    assert reply.status == 415
    assert "a gzip file" in reply.message
    assert "Content-Encoding: gzip" in reply.message


@pytest.mark.parametrize("way", ["gzip", "deflate", "deflate without a header"])
def test_a_bomb_costs_neither_time_nor_memory(way: str) -> None:
    encoding, compress = WAYS[way]
    bomb = compress(bytes(300_000_000))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    error = refusal(bomb, encoding)
    assert time.perf_counter() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 30_000
    assert isinstance(error, ImageTooLarge)
    assert "more than 67,108,864" in str(error)


def test_the_limit_itself_is_served() -> None:
    packed, limits = gzip.compress(bytes(2000)), RequestLimits(max_image_bytes=1000)
    assert classified(packed, "gzip", limits).body == bytes(2000)
    assert isinstance(refusal(gzip.compress(bytes(2001)), "gzip", limits), ImageTooLarge)


def test_a_call_that_cannot_be_unpacked_is_refused_in_its_protocols_form(
    scripted_archive: Path,
) -> None:
    """Triton's client fails on an error that is no text."""
    service = Service.open(scripted_archive)
    length = {"Inference-Header-Content-Length": "99"}
    cut = gzip.compress(INPUTS)[:-4]
    for body, encoding, more in ((b"?", "br", length), (b"?", "gzip", length), (cut, "gzip", {})):
        headers = {"Content-Encoding": encoding, **more}
        reply = service.reply(Request(body, headers=headers, transport=HTTP))
        error = json.loads(reply.body)["error"]
        assert isinstance(error, str)
        assert error.startswith(f"{reply.code}: Got a body")
    assert classified(b"?", "br").kind == PREDICT


@cases(300)
@given(st.binary(max_size=60), st.sampled_from(["gzip", "deflate"]), st.booleans())
def test_whatever_comes(data: bytes, encoding: str, whole: bool) -> None:
    packed = gzip.compress(data) if encoding == "gzip" else zlib.compress(data)
    call = classified(packed if whole else data, encoding)
    if whole:
        assert call.refused is None
    assert call.refused is None or 400 <= call.refused.status < 500


def test_json_that_was_sent_as_text() -> None:
    """A browser's fetch of a text says text/plain, and TorchServe makes a text of it."""
    assert classify(Request(JSON.decode())).body == json.loads(JSON)
