"""What a caller may ask of a reply, checked before anything is sent, for every client.

Only types and ranges are checked here: what a model has (its classes, its own score threshold, its
limits) is the server's to judge. Without an option the image alone travels, as the raw body.

The options are those of the server's own table, ``d2serve.handlers.requests.options.OPTIONS``; a
test holds the names below to it.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, TypedDict, Union

import numpy as np

from d2serve.client.errors import InvalidInput
from d2serve.handlers.requests.options import OPTIONS

if TYPE_CHECKING:
    from typing_extensions import Unpack

Classes = Sequence[Union[str, int]]
"""Names or ids of classes."""

_DRAW = "draw"
_WORDS = {option.name: option for option in OPTIONS if option.choices}
"""The options whose value is one of a few words."""


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
    """The same for JSON, which has more."""

    sem_seg: str
    """Of a semantic segmentation "png" (one label map, the default) or "rle" (COCO's run lengths
    for each class); both give the same ``label_map()``."""
    extra: str
    """Of what the model's author added "json" (numbers and lists, the default), "base64" (arrays as
    their bytes, which is shorter and quicker; both are read into the same values) or "none"."""


def encode_options(**options: Unpack[PredictOptions]) -> dict[str, bytes]:
    """What is sent beside the image, by field name; nothing where it is the server's default.

    Raises:
        InvalidInput: a value that no model could be asked for.
    """
    encoded: dict[str, bytes] = {}
    for name, value in options.items():
        if name in _WORDS:
            word = _word(name, value)
            text = None if word == _WORDS[name].default else word
        elif name in _ENCODERS:
            text = None if value is None else _ENCODERS[name](value)
        else:
            raise TypeError(f"got an unexpected option {name!r}")
        if text is not None:
            encoded[name] = text.encode("ascii")
    return encoded


def encode_picture_options(
    picture_format: str, **options: Unpack[PictureOptions]
) -> dict[str, bytes]:
    """``encode_options`` for a reply that is a picture, "png" or "jpeg"."""
    drawn = _word(_DRAW, picture_format, "format")
    return {**encode_options(**options), _DRAW: drawn.encode("ascii")}


def _word(option: str, value: Any, argument: str | None = None) -> str:
    choices = _WORDS[option].choices
    if not isinstance(value, str) or value not in choices:
        allowed = " or ".join(f"{each!r} ({what})" for each, what in choices.items())
        raise InvalidInput(f"{argument or option} is {value!r}: expected {allowed}.")
    return value


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


_ENCODERS: dict[str, Callable[[Any], str]] = {
    "score_thresh": lambda value: repr(_score(value)),
    "max_detections": lambda value: str(_count(value)),
    # Not with commas between, which a name may hold.
    "classes": lambda value: json.dumps(_names_or_ids(value)),
}
