"""What a caller may ask of a reply, checked before anything is sent, for every client.

Only types and ranges are checked here: what a model has (its classes, its own score threshold, its
limits) is the server's to judge. Without an option the image alone travels, as the raw body.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, TypedDict, Union

import numpy as np

from d2serve.client.errors import InvalidInput

if TYPE_CHECKING:
    from typing_extensions import Unpack

Classes = Sequence[Union[str, int]]
"""Names or ids of classes."""

_SEM_SEG_FORMATS = {
    "png": "one label map",
    "rle": "run lengths for each class",
}
_MASK_FORMATS = {
    "rle": "COCO's run lengths",
    "polygon": "COCO's outlines, with holes filled",
    "none": "no masks",
}
_PICTURE_FORMATS = {"png": "without loss", "jpeg": "smaller"}


class PictureOptions(TypedDict, total=False):
    """How a request is to be answered, by JSON or by a picture; each may be left out."""

    score_thresh: float | None
    """Leaves out instances that score no higher, from 0 to 1; not below the model's own."""
    max_detections: int | None
    """The best so many instances, and proposals; from 1 on."""
    classes: Classes | None
    """Names or ids of those that are wanted."""
    masks: str
    """"rle" (exact, the default), "polygon" (COCO's outlines, holes filled) or "none"."""


class PredictOptions(PictureOptions, total=False):
    """The same for JSON, which has one more."""

    sem_seg: str
    """Of a semantic segmentation "png" (one label map, the default) or "rle" (COCO's run lengths
    for each class); both give the same ``label_map()``."""


def encode_options(**options: Unpack[PredictOptions]) -> dict[str, bytes]:
    """What is sent beside the image, by field name; nothing where it is the server's default.

    Raises:
        InvalidInput: a value that no model could be asked for.
    """
    wishes: dict[str, str] = {}
    for name, value in options.items():
        if name not in _ENCODERS:
            raise TypeError(f"got the option {name!r}, expected some of {', '.join(_ENCODERS)}")
        encoded = _ENCODERS[name](value)
        if encoded is not None:
            wishes[name] = encoded
    return {name: value.encode("ascii") for name, value in wishes.items()}


def encode_picture_options(
    picture_format: str, **options: Unpack[PictureOptions]
) -> dict[str, bytes]:
    """``encode_options`` for a reply that is a picture, "png" or "jpeg"."""
    drawn = _one_of("format", picture_format, _PICTURE_FORMATS)
    return {**encode_options(**options), "draw": drawn.encode("ascii")}


def _encode_score_thresh(value: Any) -> str | None:
    return None if value is None else repr(_score(value))


def _encode_max_detections(value: Any) -> str | None:
    return None if value is None else str(_count(value))


def _encode_classes(value: Any) -> str | None:
    # Not with commas between, which a name may hold.
    return None if value is None else json.dumps(_names_or_ids(value))


def _encode_masks(value: Any) -> str | None:
    return None if _one_of("masks", value, _MASK_FORMATS) == "rle" else str(value)


def _encode_sem_seg(value: Any) -> str | None:
    return None if _one_of("sem_seg", value, _SEM_SEG_FORMATS) == "png" else str(value)


def _score(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, (bool, str, bytes)) else _decimal(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise InvalidInput(f"score_thresh is {value!r}: expected a number from 0 to 1, or None.")
    return number


def _decimal(value: Any) -> float:
    """The decimal number that is meant: 0.7 of np.float32(0.7), which is 0.699999988 exactly.

    A model with the threshold 0.7 would refuse the latter as below it. Servers compare in float32,
    where both are the same.
    """
    if isinstance(value, np.floating):
        return float(str(value))
    number = float(value)
    single = np.float32(number) if 0 <= number <= 1 else np.float32(math.nan)
    return float(str(single)) if float(single) == number else number


def _count(value: Any) -> int:
    number = _whole(value)
    if number is None or number < 1:
        raise InvalidInput(
            f"max_detections is {value!r}: expected a whole number from 1 on, or None."
        )
    return number


def _names_or_ids(value: Any) -> list[str | int]:
    if isinstance(value, (str, bytes)):
        raise InvalidInput(
            f"classes is {value!r}: expected several names or ids; put a single one into a list: "
            f"[{value!r}]."
        )
    try:
        wishes = list(value)
    except TypeError:
        wishes = []
    if not wishes:
        raise InvalidInput(
            f"classes is {value!r}: expected names or ids of classes, one at least, or None."
        )
    return [_name_or_id(each) for each in wishes]


def _name_or_id(value: Any) -> str | int:
    number = value if isinstance(value, str) else _whole(value)
    if number is None or (isinstance(number, int) and number < 0):
        raise InvalidInput(f"classes holds {value!r}: expected names, or ids from 0 on.")
    return number


def _whole(value: Any) -> int | None:
    """Any kind of whole number, numpy's too."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _one_of(name: str, value: Any, formats: dict[str, str]) -> str:
    if not isinstance(value, str) or value not in formats:
        allowed = " or ".join(f"{each!r} ({what})" for each, what in formats.items())
        raise InvalidInput(f"{name} is {value!r}: expected {allowed}.")
    return value


_ENCODERS: dict[str, Callable[[Any], str | None]] = {
    "score_thresh": _encode_score_thresh,
    "max_detections": _encode_max_detections,
    "classes": _encode_classes,
    "masks": _encode_masks,
    "sem_seg": _encode_sem_seg,
}
