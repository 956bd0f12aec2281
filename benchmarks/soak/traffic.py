"""A round of requests: some of everything that can be sent.

What leaks is often not the answer but the refusal, the drawn picture or the other protocol. So
there are pictures of many sizes in three formats, by every protocol, with options, drawn, and what
must be refused. The sizes come again in every round, so that buffers of every size have been there
when the warm-up ends.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

MODEL = "soak"
OK = "ok"
_SAMPLE = Path(__file__).resolve().parents[2] / "examples/shapes/sample.jpg"
_SIZES = 15
_SHORTEST, _LONGEST = 64, 960
_FORMATS = ("JPEG", "PNG", "WEBP")
_BYTES = "application/octet-stream"
_FORMS: tuple[Mapping[str, str], ...] = (
    {"masks": "polygon"},
    {"masks": "none", "max_detections": "1"},
    {"score_thresh": "0.9", "classes": "circle"},
    {"draw": "png"},
    {"draw": "jpeg"},
)


@dataclass(frozen=True)
class Request:
    """One of a round."""

    name: str
    content: bytes
    """The body, or over gRPC the image."""
    expects: str = OK
    """The code of the error that is the right answer, or OK."""
    path: str | None = f"/predictions/{MODEL}"
    """None: over gRPC."""
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": _BYTES})


def one_round() -> list[Request]:
    """The requests of a round, the same ones each time."""
    sizes = np.random.default_rng(0).integers(_SHORTEST, _LONGEST + 1, (_SIZES, 2)).tolist()
    with Image.open(_SAMPLE) as sample:
        pictures = [sample.convert("RGB").resize((width, height)) for height, width in sizes]
    round_: list[Request] = []
    for number, picture in enumerate(pictures):
        name = f"{picture.width}x{picture.height}"
        files = {each: _saved(picture, each) for each in _FORMATS}
        round_ += [Request(f"{name} {each}", file) for each, file in files.items()]
        jpeg, form = files["JPEG"], _FORMS[number % len(_FORMS)]
        round_.append(_form(f"{name} {form}", jpeg, form))
        round_.append(Request(f"{name} gRPC", jpeg, path=None))
        if number % 3 == 0:
            round_.append(_json(f"{name} JSON", {"image": _text(jpeg), "masks": "polygon"}))
        if number % 3 == 1:
            round_.append(_oip(f"{name} OIP", jpeg))
        if number % 3 == 2:
            half = jpeg[: len(jpeg) // 2]
            round_.append(Request(f"{name} truncated", half, "invalid_image"))
            round_.append(Request(f"{name} truncated gRPC", half, "invalid_image", path=None))
    return [*round_, *_refused(_saved(pictures[0], "JPEG"))]


def _refused(jpeg: bytes) -> list[Request]:
    too_many = "image_too_large"
    bombs = {each: _bomb(each) for each in ("PNG", "WEBP", "GIF", "TIFF")}
    return [
        Request("empty", b"", "empty_request"),
        Request("text", b"no picture at all", "unsupported_image_format"),
        Request("text gRPC", b"no picture at all", "unsupported_image_format", path=None),
        Request("zero bytes", bytes(100_000), "unsupported_image_format"),
        *(Request(f"bomb as {name}", file, too_many) for name, file in bombs.items()),
        Request("bomb gRPC", bombs["PNG"], too_many, path=None),
        Request("too many bytes", jpeg + bytes(34_000_000), too_many),
        _form("bad option", jpeg, {"score_thresh": "much"}, "invalid_option"),
        _form("unknown option", jpeg, {"colour": "red"}, "invalid_option"),
        _json("JSON without an image", {"masks": "none"}, "empty_request"),
        _json("JSON with a number for one", {"image": 5}, "empty_request"),
        _oip("OIP of text", b"no picture at all", "unsupported_image_format"),
    ]


def _saved(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def _bomb(file_format: str) -> bytes:
    """A small file of far more pixels than are served."""
    if file_format != "PNG":
        black = Image.new("1" if file_format == "TIFF" else "L", (7200, 7200))
        options = {"compression": "group4"} if file_format == "TIFF" else {}
        return _saved(black, file_format, **options)
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0), b"IDAT": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _form(name: str, image: bytes, options: Mapping[str, str], expects: str = OK) -> Request:
    built = httpx.Request("POST", "http://x", files={"data": image}, data=dict(options))
    headers = {"content-type": built.headers["content-type"]}
    return Request(name, built.read(), expects, headers=headers)


def _json(
    name: str, body: Mapping[str, Any], expects: str = OK, path: str = f"/predictions/{MODEL}"
) -> Request:
    headers = {"content-type": "application/json"}
    return Request(name, json.dumps(body).encode(), expects, path, headers)


def _oip(name: str, image: bytes, expects: str = OK) -> Request:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [_text(image)]}
    path = f"/v2/models/{MODEL}/infer"
    return _json(name, {"id": "7", "inputs": [tensor]}, expects, path)
