"""Requests as strangers and accidents make them: true files of every kind, damaged in every way."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import zlib
from functools import cache
from random import Random
from typing import Any

import numpy as np
from PIL import Image, features

from tests.handlers.files import png_of, tiff_of

Request = tuple[Any, dict[str, Any]]
"""What TorchServe would hand over: fields and headers."""

WIDTH, HEIGHT = 47, 31  # so that they can be found in headers
_OPTIONS: dict[str, list[Any]] = {
    "score_thresh": [0.5, "0.9", 0.01, "nan", None, [], "1e999", b"\xff"],
    "max_detections": [1, "2", 0, -1, "9" * 400, 1.5, True],
    "classes": ["circle", [0, "circle"], "0,1", [], [[]], {"a": 1}, "[", "[1", 5],
    "masks": ["rle", "polygon", "none", "NONE", 1],
    "sem_seg": ["png", "rle", "gif"],
    "draw": ["png", "jpeg", True, "gif"],
    "nonsense": [1],
    "naïve\n": ["x"],
}


_IN_TENSORS: list[Any] = [
    None, "", "BYTES", "UINT8", "FP32", [], [1], [0], [-1, 3, 3], [3, 2, 3], [10**9, 10**9, 3],
    [[[0, 0, 0]] * 3] * 2, [[0], [1, 2]], [256] * 18, [0.5] * 18, [True] * 18, [None] * 18,
    [""], [[]], {}, {"binary_data_size": 18}, {"binary_data_size": 10**12}, {"other": 1}, 2**70,
]  # fmt: skip
_FURTHER_INPUTS: list[Any] = [
    {"name": "masks", "datatype": "BYTES", "shape": [1], "data": ["none"]},
    {"name": "max_detections", "datatype": "INT64", "shape": [1], "data": [1]},
    {"name": "classes", "datatype": "INT64", "shape": [2], "data": [0, 1]},
    {"name": "outputs", "datatype": "BYTES", "shape": [2], "data": ["boxes", "reply"]},
    {"name": "score_thresh", "datatype": "FP32", "shape": [], "data": [[[]]]},
]
_REQUESTED: list[Any] = [
    [], [{"name": "boxes"}], [{"name": "reply"}, {"name": "image_size"}], [{"name": "logits"}],
    [{"name": "boxes"}, {"name": "boxes"}], {"name": "boxes"}, ["boxes"], [None], "boxes",
]  # fmt: skip


@cache
def corpus() -> tuple[bytes, ...]:
    """Small files of every format, mode, orientation and number of frames that is served."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
    rgba = Image.fromarray(noise)
    rgb = rgba.convert("RGB")
    sixteen = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
    modes = {
        "JPEG": ["L", "RGB", "CMYK"],
        "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
        "BMP": ["1", "L", "P", "RGB"],
        "WEBP": ["RGB", "RGBA"],
        "TIFF": ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "LAB", "YCbCr"],
        "GIF": ["L", "P"],
    }

    def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, file_format, **options)
        return file.getvalue()

    def converted(mode: str) -> Image.Image:
        if mode == "I;16":
            return sixteen
        return rgba if mode == "RGBA" else (rgba if mode == "LA" else rgb).convert(mode)

    files = [saved(converted(mode), name) for name, some in modes.items() for mode in some]
    for orientation in (*range(10), 65535):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files += [saved(rgb, name, exif=exif) for name in ("JPEG", "PNG", "WEBP", "TIFF")]
    more = [rgb.rotate(degrees) for degrees in (90, 180)]
    for name in ("GIF", "PNG", "WEBP", "TIFF", "MPO"):
        files.append(saved(rgb, name, save_all=True, append_images=more))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files.append(saved(rgb, "TIFF", compression=compression))
    files.append(saved(rgb.convert("1"), "TIFF", compression="group4"))
    files.append(saved(rgb, "TIFF", big_tiff=True))
    files.append(saved(rgb, "WEBP", lossless=True))
    if features.check("avif"):
        files += [saved(each, "AVIF") for each in (rgb, rgba)]
    samples = noise.astype(np.uint16) * 257
    files += [png_of(samples[:, :, :bands]) for bands in (1, 3)]
    for bands, planar, deflated in ((1, False, True), (3, False, False), (3, True, True)):
        kind: dict[str, Any] = {"planar": planar, "deflated": deflated, "differences": deflated}
        files.append(tiff_of(samples[:, :, :bands], **kind))
    files += [saved(rgb, "JPEG", progressive=True, subsampling=each) for each in (0, 1, 2)]
    files += [b"", b"\0" * 1000, b"https://example.org/a.jpg", saved(rgb, "PPM"), saved(rgb, "ICO")]
    return tuple(files)


def mutated(random: Random) -> bytes:
    """A file of the corpus, whole one time in eight."""
    data = random.choice(corpus())
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 8))):
        data = random.choice(_MUTATIONS)(data, random)
    return data


def request(random: Random) -> Request:
    """A mutated file in any of the shapes of a request, with options that hold or do not."""
    image: Any = mutated(random)
    names = random.sample(sorted(_OPTIONS), random.choice((0, 0, 0, 0, 0, 1, 2)))
    options = {name: random.choice(_OPTIONS[name]) for name in names}
    headers: dict[str, Any] = random.choice(({"Host": "x"}, {"Host": "x"}, {}))
    headers = dict(headers)
    shape = random.randrange(8)
    text = base64.b64encode(image).decode()
    if shape == 0:
        return {
            "body": {"image": random.choice((text, text, text[:-1], 5, None)), **options}
        }, headers
    if shape == 1:
        return _oip_call(image, text, options, headers, random)
    if shape == 2:
        for name, value in options.items():
            headers["X-D2serve-" + name.replace("_", "-")] = str(value)
        if headers and random.random() < 0.4:
            headers["Content-Encoding"] = random.choice(("gzip", "deflate", "br", "gzip, gzip"))
            packed = random.choice((gzip.compress, zlib.compress, bytes))(image)
            image = _truncated(packed, random) if random.random() < 0.2 else packed
        return {"body": bytearray(image)}, headers
    if shape == 3 and random.random() < 0.3:
        wrong: list[Any] = [
            None,
            {},
            [],
            5,
            "naïve",
            {"body": None},
            {"body": [image]},
            {"data": 5},
        ]
        return random.choice(wrong), headers
    as_form = {
        name: value.encode() if isinstance(value, str) else value for name, value in options.items()
    }
    return {random.choice(("data", "body")): bytearray(image), **as_form}, headers


def _oip_call(
    image: bytes, text: str, options: dict[str, Any], headers: dict[str, Any], random: Random
) -> Request:
    """A call of the Open Inference Protocol, parsed by TorchServe, or as bytes with contents."""
    pixels = {"name": "image", "datatype": "UINT8", "shape": [2, 3, 3], "data": [*range(18)]}
    tensor: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
    if random.random() < 0.5:
        tensor = pixels
    contents = b""
    if random.random() < 0.3:
        contents = bytes(18) if tensor is pixels else struct.pack("<I", len(image)) + image
        tensor["parameters"] = {"binary_data_size": len(contents)}
        del tensor["data"]
    for _ in range(random.choice((0, 0, 1, 2))):
        tensor[random.choice(sorted(tensor))] = random.choice(_IN_TENSORS)
    inputs: Any = random.choice(([tensor],) * 8 + ([tensor, 5], [{}], None, "x"))
    inputs = [tensor, random.choice(_FURTHER_INPUTS)] if random.random() < 0.3 else inputs
    call = {
        "id": random.choice(("7",) * 10 + ("\ud800", 7)),
        "inputs": inputs,
        "parameters": options,
    }
    if random.random() < 0.3:
        call["outputs"] = random.choice(_REQUESTED)
    if contents or (headers and random.random() < 0.4):
        start = json.dumps(call, default=str).encode()
        length = random.choice((*[len(start)] * 8, 0, len(start) + 1, "x", -1))
        headers["Inference-Header-Content-Length"] = str(length)
        behind = _truncated(contents, random) if random.random() < 0.2 else contents
        return {"body": bytearray(start + behind)}, headers
    headers["body"] = {"content-type": "application/json"}
    return {"body": call}, headers


def _truncated(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _flipped(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 4, 32))):
        if changed:
            place = random.choice((random.randrange(len(changed)), random.randrange(64)))
            changed[place % len(changed)] = random.choice((0, 1, 127, 255, random.randrange(256)))
    return bytes(changed)


def _zeroed(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    length = random.randrange(200)
    return data[:start] + b"\0" * len(data[start : start + length]) + data[start + length :]


def _doubled(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    piece = data[start : start + random.randrange(300)]
    return data[:start] + piece * random.choice((2, 2, 3, 200)) + data[start + len(piece) :]


def _without(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    return data[:start] + data[start + random.randrange(100) :]


def _spliced(data: bytes, random: Random) -> bytes:
    other = random.choice(corpus())
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _resized(data: bytes, random: Random) -> bytes:
    """Another width or height in the header, wherever its number stands."""
    edge = random.choice((WIDTH, HEIGHT))
    wanted = random.choice((0, 1, 255, 7000, 20_000, 65535, 2**31 - 1))
    for kind in random.sample(("<I", ">I", "<H", ">H"), 4):
        number = struct.pack(kind, edge)
        if number in data:
            most = 65535 if kind.endswith("H") else 2**32 - 1
            return data.replace(number, struct.pack(kind, min(wanted, most)), 1)
    return data


def _noise(data: bytes, random: Random) -> bytes:
    return data[: random.choice((2, 8, 16, 64))] + random.randbytes(random.choice((10, 1000)))


_MUTATIONS = (_truncated, _flipped, _zeroed, _doubled, _without, _spliced, _resized, _noise)
