"""Reads the value of each request option, and refuses one that the model cannot answer.

A value comes as text (forms, headers, gRPC), as what JSON has, or as a Python value. Answering a
value that makes no sense as if it had not been sent would answer another question.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.output_names import BOXES, PROPOSAL_BOXES

Reader = Callable[[str, Any, ModelSpec], Any]
"""Takes an option's name, its value and the model's spec; returns the value to use.

Raises:
    InvalidOption: the option cannot have this value, or the model cannot follow it.
"""

_MOST_CLASSES = 10_000


def one_of(choices: tuple[str, ...]) -> Reader:
    """A reader of one out of several words."""

    def read(name: str, value: Any, _: ModelSpec) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _option_error(
                name, value, f"one of {', '.join(choices)}. Leave it out for the default."
            )
        return value

    return read


def read_score_thresh(name: str, value: Any, spec: ModelSpec) -> float:
    """A score from the model's own threshold to 1."""
    _need_instances(name, value, spec)
    try:
        number = float(value) if isinstance(value, (str, Real)) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise _option_error(name, value, "a score from 0 to 1.")
    own = spec.score_thresh
    # As scores are compared: a float32 of the model's own threshold is that threshold.
    if own is not None and _as_float32(number) < _as_float32(own):
        raise _option_error(
            name,
            value,
            f"{own:g} or more: below {own:g} this archive's model itself leaves instances out. "
            "For lower scores, export it with a lower score threshold.",
        )
    return number


def read_max_detections(name: str, value: Any, spec: ModelSpec) -> int:
    """A number from 1 to the archive's limit."""
    if BOXES not in spec.outputs and PROPOSAL_BOXES not in spec.outputs:
        raise _option_error(name, value, "it to be left out: this model answers label maps only.")
    number = _whole(value)
    most = spec.limits.max_detections
    if number is None or not 1 <= number <= most:
        raise _option_error(name, value, f"a whole number from 1 to {most}.")
    return number


def read_classes(name: str, value: Any, spec: ModelSpec) -> frozenset[int]:
    """Ids of the classes that are named, by name or by id.

    In a list a text is a name, or an id where no class has that name, and a number is an id. A
    text outside a list does not say which it is, so it may not be the one and the other.
    """
    _need_instances(name, value, spec)
    names = spec.class_names or ()
    wishes, typed = _wishes(name, value, names)
    chosen: set[int] = set()
    for wish in wishes:
        number = _whole(wish)
        known_id = number is not None and 0 <= number < (len(names) or 2**31)
        named = {i for i, each in enumerate(names) if each == wish}
        if named and known_id and named != {number} and not typed:
            raise InvalidOption(
                f"Got the option {name} with {_shown(wish)}, which is the name of a class and the "
                f'id of another one. Send ["{number}"] for the name, [{number}] for the id.'
            )
        if named:
            chosen |= named
        elif number is not None and known_id:
            chosen.add(number)
        else:
            raise _option_error(name, wish, _known_classes(names))
    return frozenset(chosen)


def _known_classes(names: Sequence[str]) -> str:
    if not names:
        return "ids from 0 on."
    more = ", ..." if len(names) > 20 else ""
    return f"ids from 0 to {len(names) - 1} or names: {', '.join(names[:20])}{more}."


def _wishes(name: str, value: Any, names: Sequence[str]) -> tuple[Sequence[Any], bool]:
    """Single classes, and whether their types say what is a name and what an id."""
    typed = not isinstance(value, str)
    if isinstance(value, str) and value.lstrip().startswith("[") and value not in names:
        try:
            value, typed = json.loads(value), True
        except (ValueError, RecursionError):
            raise _option_error(name, value, 'a list as JSON has it: ["circle", 2].') from None
    elif not typed:
        value = [value] if value in names else [each.strip() for each in value.split(",")]
    elif _whole(value) is not None:
        value = [value]
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= _MOST_CLASSES:
        raise _option_error(name, value, "names or ids of classes, one at least: circle,2.")
    return value, typed


def _whole(value: Any) -> int | None:
    """A whole number, of any kind that Python has, or as text."""
    if type(value) is int or (type(value) is not bool and isinstance(value, Integral)):
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    return None


def _as_float32(number: float) -> float:
    value: float = struct.unpack("f", struct.pack("f", number))[0]
    return value


def _need_instances(name: str, value: object, spec: ModelSpec) -> None:
    if BOXES not in spec.outputs:
        raise _option_error(name, value, "it to be left out: this model finds no instances.")


def _option_error(name: str, value: object, expected: str) -> InvalidOption:
    return InvalidOption(f"Got the option {name}={_shown(value)}, expected {expected}")


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else text[:40] + "..."
