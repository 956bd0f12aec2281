"""What a server answers, as typed values: the response JSON of the design, version 1.

Parsing is strict about what the version promises and lenient about what it may add later: unknown
fields stay in ``Prediction.raw``. Coordinates are pixels of the image as sent (after its EXIF
orientation was applied), x to the right and y down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from d2serve.client.errors import MalformedReply

T = TypeVar("T")
Keypoint = tuple[float, float, float]


@dataclass(frozen=True)
class RunLengthMask:
    """A binary mask in COCO's compressed run-length encoding."""

    height: int
    width: int
    counts: str

    def decode(self) -> NDArray[np.bool_]:
        """The mask as a boolean array of shape (height, width)."""
        encoded = {"size": [self.height, self.width], "counts": self.counts.encode("ascii")}
        try:
            decoded = coco_mask.decode(encoded)
        except (ValueError, TypeError, MemoryError) as error:
            raise MalformedReply(f"The mask's run lengths cannot be decoded: {error}") from error
        return np.asarray(decoded, dtype=np.bool_)

    def area(self) -> int:
        """Number of pixels in the mask, without decoding it."""
        encoded = {"size": [self.height, self.width], "counts": self.counts.encode("ascii")}
        return int(coco_mask.area(encoded))


@dataclass(frozen=True)
class Instance:
    """One detected object."""

    bbox: tuple[float, float, float, float]
    bbox_mode: str
    score: float
    category_id: int
    category_name: str | None = None
    segmentation: RunLengthMask | None = None
    keypoints: tuple[Keypoint, ...] | None = None
    """(x, y, score) each, in the order of the model's keypoint names."""

    def mask(self) -> NDArray[np.bool_]:
        """The instance's mask over the whole image, boolean, of shape (height, width)."""
        if self.segmentation is None:
            raise ValueError(f"this {self.label()} has no mask: the model predicts none")
        return self.segmentation.decode()

    def label(self) -> str:
        """The category's name, or its number where the model was exported without names."""
        return f"category {self.category_id}" if self.category_name is None else self.category_name


@dataclass(frozen=True)
class Prediction:
    """The answer to one image; instances by falling score."""

    model: str
    version: str
    height: int
    width: int
    instances: tuple[Instance, ...]
    raw: dict[str, Any] = field(repr=False, compare=False)
    """The reply as received, parsed from JSON."""


def parse_prediction(reply: bytes | str | Mapping[str, Any]) -> Prediction:
    """Turn a reply of version 1 into a Prediction; anything else raises MalformedReply."""
    if isinstance(reply, (bytes, str)):
        try:
            loaded = orjson.loads(reply)
        except orjson.JSONDecodeError as error:
            raise MalformedReply(_not_version_1(f"it is not JSON ({error})", reply)) from error
    else:
        loaded = reply
    if not isinstance(loaded, Mapping):
        raise MalformedReply(_not_version_1(f"it is a JSON {type(loaded).__name__}", reply))
    raw = dict(loaded)
    try:
        return Prediction(
            model=_field(raw, "model", str),
            version=_field(raw, "version", str),
            height=_field(_field(raw, "image", dict), "height", int),
            width=_field(_field(raw, "image", dict), "width", int),
            instances=tuple(_instance(item) for item in _field(raw, "instances", list)),
            raw=raw,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedReply(_not_version_1(str(error), reply)) from error


def _instance(item: Any) -> Instance:
    box = _floats(_field(item, "bbox", list), 4, "bbox")
    return Instance(
        bbox=(box[0], box[1], box[2], box[3]),
        bbox_mode=_field(item, "bbox_mode", str),
        score=float(_field(item, "score", (int, float))),
        category_id=_field(item, "category_id", int),
        category_name=_optional(item, "category_name", lambda v: _typed(v, str, "category_name")),
        segmentation=_optional(item, "segmentation", _segmentation),
        keypoints=_optional(item, "keypoints", _keypoints),
    )


def _segmentation(value: Any) -> RunLengthMask:
    size = [_typed(side, int, "size") for side in _field(value, "size", list)]
    if len(size) != 2 or min(size) < 0:
        raise ValueError(f"'size' is {size}, not [height, width]")
    counts = _field(value, "counts", str)
    if not counts.isascii():
        raise ValueError("'counts' is not COCO's compressed run-length encoding")
    return RunLengthMask(height=size[0], width=size[1], counts=counts)


def _keypoints(value: Any) -> tuple[Keypoint, ...]:
    triples = (_floats(point, 3, "keypoints") for point in _typed(value, list, "keypoints"))
    return tuple((x, y, score) for x, y, score in triples)


def _floats(value: Any, length: int, name: str) -> list[float]:
    numbers = [float(_typed(n, (int, float), name)) for n in _typed(value, list, name)]
    if len(numbers) != length:
        raise ValueError(f"{name!r} has {len(numbers)} numbers, not {length}")
    return numbers


def _optional(item: Mapping[str, Any], name: str, parse: Callable[[Any], T]) -> T | None:
    return parse(item[name]) if item.get(name) is not None else None


def _field(item: Any, name: str, kind: Any) -> Any:
    if not isinstance(item, Mapping):
        raise TypeError(f"expected an object with {name!r}, got {type(item).__name__}")
    if name not in item:
        raise ValueError(f"{name!r} is missing")
    return _typed(item[name], kind, name)


def _typed(value: Any, kind: Any, name: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name!r} is of type {type(value).__name__}")
    return value


def _not_version_1(what: str, reply: object) -> str:
    shown = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    return (
        f"The reply is not a d2serve response of version 1: {what}. Expected an object with "
        "model, version, image and instances; is the model behind this address a .mar made by "
        f"d2serve? The reply begins: {shown[:200]!r}"
    )
