"""Compressed bodies, texts around base64, and files of 16 bits, sent to a live server.

TorchServe hands over a compressed body as it came, also of JSON, which it then fails to parse: it
logs that and leaves the bytes alone.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.handlers.files import png_of, tiff_of
from tests.handlers.samples import picture, saved
from tests.robustness.sending import Sender, grey, refusal
from tests.robustness.test_bombs_and_addresses import MOST_KILOBYTES, MOST_SECONDS, memory

pytestmark = pytest.mark.server

INFER = "/v2/models/shapes/infer"
WAYS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
PIXELS = np.full((20, 30, 3), 51, np.uint8)


@pytest.fixture(autouse=True)
def _same_workers(sender: Sender) -> Iterator[None]:
    before = sender.workers()
    yield
    assert sender.image(grey(51)).status_code == 200
    assert sender.workers() == before


def found(response: Any) -> Any:
    assert response.status_code == 200, response.text
    reply = response.json()
    return reply.get("instances", reply.get("outputs"))


@pytest.mark.parametrize("encoding", WAYS)
def test_compressed_bodies(sender: Sender, encoding: str) -> None:
    expected = found(sender.image(grey(51)))
    text = base64.b64encode(grey(51)).decode()
    as_json = json.dumps({"image": text}).encode()
    for kind, body in (
        ("image/png", grey(51)),
        ("application/octet-stream", grey(51)),
        ("application/json", as_json),
        ("text/plain", as_json),
    ):
        headers = {"content-type": kind, "content-encoding": encoding}
        sent = sender.post(content=WAYS[encoding](body), headers=headers)
        assert found(sent) == expected, kind


@pytest.mark.parametrize("encoding", WAYS)
def test_compressed_calls_of_the_open_inference_protocol(sender: Sender, encoding: str) -> None:
    """As Triton's client sends them: binary contents behind the JSON, and no content type."""
    tensor: dict[str, Any] = {"name": "image", "datatype": "UINT8", "shape": [20, 30, 3]}
    whole = json.dumps({"inputs": [{**tensor, "data": PIXELS.tolist()}]}).encode()
    start = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 1800}}]}).encode()
    expected = found(sender.post(INFER, content=whole))
    compress, headers = WAYS[encoding], {"content-encoding": encoding}
    length = {"Inference-Header-Content-Length": str(len(start))}
    in_binary = compress(start + PIXELS.tobytes())
    assert found(sender.post(INFER, content=in_binary, headers={**headers, **length})) == expected
    for kind in ({}, {"content-type": "application/json"}):
        sent = sender.post(INFER, content=compress(whole), headers={**headers, **kind})
        assert found(sent) == expected
    refused = sender.post(INFER, content=in_binary[:-9], headers={**headers, **length})
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("invalid_image: Got a body of")


def test_compressed_bodies_that_are_refused(sender: Sender) -> None:
    body = gzip.compress(grey(51))
    other = sender.image(body, **{"content-encoding": "br"})
    assert "expected gzip, deflate or none" in refusal(other, 415, "unsupported_image_format")
    assert "a gzip file" in refusal(sender.image(body), 415, "unsupported_image_format")
    plain = sender.image(grey(51), **{"content-encoding": "gzip"})
    assert "cannot be unpacked" in refusal(plain, 400, "invalid_image")


@pytest.mark.parametrize("encoding", WAYS)
def test_a_body_that_unpacks_to_much_costs_neither_time_nor_memory(
    sender: Sender, encoding: str
) -> None:
    bomb = WAYS[encoding](bytes(300_000_000))
    pid, _ = sender.workers()["ground"]
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before = memory(pid, "VmRSS")
    response = sender.image(bomb, "ground", **{"content-encoding": encoding})
    refusal(response, 413, "image_too_large")
    assert response.elapsed.total_seconds() < MOST_SECONDS
    assert memory(pid, "VmHWM") - before < MOST_KILOBYTES


def test_texts_around_base64(sender: Sender) -> None:
    expected = found(sender.image(grey(51)))
    text = base64.urlsafe_b64encode(grey(51)).decode().rstrip("=")
    for image in (text, f"data:image/png;base64,{text}"):
        assert found(sender.post(json={"image": image})) == expected
    as_text = {"content-type": "text/plain;charset=UTF-8"}  # as a browser's fetch sends a text
    assert found(sender.post(content=json.dumps({"image": text}), headers=as_text)) == expected
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [f"data:;base64,{text}"]}
    assert sender.post(INFER, json={"inputs": [tensor]}).status_code == 200


@pytest.mark.parametrize(
    "body", [{"instances": [{"b64": "AAAA"}]}, {"data": "AAAA"}, {"image": ["AAAA"]}, ["AAAA"]]
)
def test_other_servers_forms_are_refused_with_the_right_one(sender: Sender, body: Any) -> None:
    assert '{"image": "..."}' in refusal(sender.post(json=body), 400, "empty_request")


def test_files_of_16_bits(sender: Sender) -> None:
    samples = np.full((20, 30, 1), 51 * 257, np.uint16)
    expected = sender.image(grey(51)).json()
    assert expected["image"] == {"height": 20, "width": 30}
    for data in (png_of(samples), tiff_of(np.repeat(samples, 3, axis=2), planar=True)):
        reply = sender.image(data).json()
        assert reply["image"] == {**expected["image"], "converted": "16-bit to 8-bit"}
        assert reply["instances"] == expected["instances"]


def test_a_foreign_format_is_named(sender: Sender) -> None:
    jp2 = saved(picture(16, 16), "JPEG2000")
    message = refusal(sender.image(jp2), 415, "unsupported_image_format")
    assert "a JPEG 2000 file" in message
