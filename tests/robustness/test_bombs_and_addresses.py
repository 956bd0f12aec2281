"""A small file that unpacks to much costs neither time nor memory, and no address that a client
sends is ever asked; shown on a server, by its worker's peak of memory and by a socket that listens.
"""

from __future__ import annotations

import base64
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, features

from tests.handlers.files import huge_avif, tiff_of
from tests.handlers.samples import picture, saved
from tests.robustness.sending import Sender

pytestmark = pytest.mark.server

EDGE = 10_000
MOST_SECONDS = 1.0
MOST_KILOBYTES = 30_000


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of one byte a pixel, with chunks after its header."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), *chunks, (b"IEND", b""))
    )


@cache
def packed(size: int) -> bytes:
    """So many zero bytes, in a thousandth of it."""
    return zlib.compress(bytes(size), 9)


def webp(kind: str) -> bytes:
    """A small file of the largest canvas that there is."""
    options: dict[str, Any] = {"lossless": kind == "VP8L"}
    if kind == "animated":
        options = {"save_all": True, "append_images": [picture(16, 16, seed=1)]}
    data = bytearray(saved(picture(16, 16), "WEBP", **options))
    if kind == "animated":
        data[24:30] = (16382).to_bytes(3, "little") * 2
    elif kind == "VP8L":
        data[21:25] = struct.pack("<L", 16382 | 16382 << 14)
    else:
        data[26:30] = struct.pack("<HH", 16383, 16383)
    return bytes(data)


def bombs() -> dict[str, bytes]:
    """Files of some kilobytes, by what they are."""
    black = Image.new("L", (EDGE, EDGE))
    found = {f"WebP, {kind}": webp(kind) for kind in ("VP8", "VP8L", "animated")}
    found["PNG"] = png(EDGE, EDGE, (b"IDAT", packed(EDGE * (EDGE + 1))))
    found["PNG of 65535x65535"] = png(65535, 65535, (b"IDAT", packed(10_000_000)))
    found["PNG with a text of 100 MB"] = png(
        16, 16, (b"zTXt", b"a\0\0" + packed(100_000_000)), (b"IDAT", packed(16 * 17))
    )
    found["PNG with a profile of 100 MB"] = png(
        16, 16, (b"iCCP", b"a\0\0" + packed(100_000_000)), (b"IDAT", packed(16 * 17))
    )
    found["GIF"] = saved(black, "GIF")
    found["TIFF"] = saved(black.convert("1"), "TIFF", compression="group4")
    found["TIFF, deflated"] = saved(black, "TIFF", compression="tiff_adobe_deflate")
    found["JPEG"] = saved(black, "JPEG", quality=1)
    sides = {256: [EDGE], 257: [EDGE]}
    found["TIFF of 16 bits"] = tiff_of(np.zeros((8, 8, 3), np.uint16), planar=True, tags=sides)
    if features.check("avif"):
        found["AVIF"] = huge_avif(EDGE, EDGE)
    return found


def memory(pid: int, name: str) -> int:
    """Kilobytes of a process, VmRSS now or VmHWM at its peak."""
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{name}:")[2].split()[0])


def test_bombs_cost_neither_time_nor_memory(sender: Sender) -> None:
    pid, _ = sender.workers()["ground"]
    for name, bomb in bombs().items():
        assert len(bomb) < 2_000_000, name
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
        before = memory(pid, "VmRSS")
        response = sender.image(bomb, "ground")
        assert response.status_code in (400, 413), f"{name}: {response.text}"
        assert response.elapsed.total_seconds() < MOST_SECONDS, name
        assert memory(pid, "VmHWM") - before < MOST_KILOBYTES, name
        told = response.json()["error"]["code"]
        assert told == ("invalid_image" if "100 MB" in name else "image_too_large"), name


def test_the_peak_would_be_seen(sender: Sender) -> None:
    """Of an image that is served, so that the test above can fail."""
    pid, _ = sender.workers()["ground"]
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = memory(pid, "VmRSS")
    large = saved(Image.new("L", (3000, 3000)), "PNG", compress_level=1)
    assert sender.image(large, "ground").status_code == 200
    assert memory(pid, "VmHWM") - before > MOST_KILOBYTES


class Listener:
    """A server that nobody should come to."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(1)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/image.jpg"

    def was_asked(self) -> bool:
        try:
            self.socket.accept()[0].close()
        except TimeoutError:
            return False
        return True


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.socket.close()


def test_nothing_is_fetched_from_an_address_that_a_client_sends(
    sender: Sender, listener: Listener
) -> None:
    url = listener.url
    image = base64.b64encode(saved(picture(16, 16), "PNG")).decode()

    def inputs(data: str) -> dict[str, Any]:
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [data]}
        return {"inputs": [tensor]}

    def svg() -> bytes:
        space = "xmlns='http://www.w3.org/2000/svg' xmlns:x='http://www.w3.org/1999/xlink'"
        return f"<svg {space}><image x:href='{url}' href='{url}'/></svg>".encode()

    entity = f"<?xml version='1.0'?><!DOCTYPE a SYSTEM '{url}'><a>&b;</a>".encode()
    answers = [
        *(sender.image(body) for body in (url.encode(), svg(), entity, f"[{url}]".encode())),
        sender.post(content=url, headers={"content-type": "text/plain"}),
        sender.post(content=url, headers={"content-type": "text/uri-list"}),
        sender.form(url.encode()),
        sender.post(data={"data": url}),
        sender.post(data={"url": url}),
        sender.post(json={"image": url}),
        sender.post(json={"image": {"url": url}}),
        sender.post(json={"url": url}),
        sender.post(json={"image": image, "url": url}),
        sender.post(json={"image": image, "draw": url}),
        sender.image(base64.b64decode(image), **{"X-D2serve-url": url}),
        sender.post("/v2/models/shapes/infer", json=inputs(url)),
        sender.post("/v2/models/shapes/infer", json={**inputs(image), "parameters": {"url": url}}),
        sender.post("/v2/models/shapes/infer", json=inputs(base64.b64encode(svg()).decode())),
    ]
    told = {f"{each.status_code} {each.text[:100]}" for each in answers}
    assert {each.status_code for each in answers} <= {400, 415}, told
    assert not listener.was_asked()
    with pytest.raises(httpx.HTTPError):
        httpx.get(url, timeout=0.2, trust_env=False)
    assert listener.was_asked(), "a question would have been noticed"
    assert json.loads(answers[0].text)["error"]["code"] == "unsupported_image_format"
