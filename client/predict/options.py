"""Why: what a caller may ask of a reply is checked once, before anything is sent, for every client.

Here only types and ranges are: what a model has (its classes, its own score threshold, its limits)
is the server's to judge. Without a wish the image alone travels, as the raw body.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Sequence
from typing import Any, Union

from d2serve.client.errors import InvalidInput

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


def reply_options(
    *,
    score_thresh: float | None = None,
    max_detections: int | None = None,
    classes: Classes | None = None,
    masks: str = "rle",
    sem_seg: str = "png",
) -> dict[str, bytes]:
    """What is sent beside the image, by field name; nothing where it is the server's default.

    Raises:
        InvalidInput: a value that no model could be asked for.
    """
    wishes: dict[str, str] = {}
    if score_thresh is not None:
        wishes["score_thresh"] = repr(_score(score_thresh))
    if max_detections is not None:
        wishes["max_detections"] = str(_count(max_detections))
    if classes is not None:
        # Not with commas between, which a name may hold.
        wishes["classes"] = json.dumps(_names_or_ids(classes))
    if _one_of("masks", masks, _MASK_FORMATS) != "rle":
        wishes["masks"] = masks
    if _one_of("sem_seg", sem_seg, _SEM_SEG_FORMATS) != "png":
        wishes["sem_seg"] = sem_seg
    return {name: value.encode("ascii") for name, value in wishes.items()}


def picture_options(format: str, **options: Any) -> dict[str, bytes]:
    """``reply_options`` for a reply that is a picture, "png" or "jpeg"."""
    drawn = _one_of("format", format, _PICTURE_FORMATS)
    return {**reply_options(**options), "draw": drawn.encode("ascii")}


def _score(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise InvalidInput(f"score_thresh is {value!r}: expected a number from 0 to 1, or None.")
    return number


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
