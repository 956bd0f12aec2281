"""Why: a client may say beside its image how it wants the answer, and a slip there must be told.

An option that does not exist, or a value that it cannot have, is refused: answering as if it had
not been said would be an answer to another question.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.spec.model_spec import BOXES, PROPOSAL_BOXES, ModelSpec

PNG, RLE, POLYGON, NONE, JPEG = "png", "rle", "polygon", "none", "jpeg"


@dataclass(frozen=True)
class RequestOptions:
    """How one request is to be answered."""

    score_thresh: float | None = None
    """Instances of this score and below are left out; None is the model's own."""
    max_detections: int | None = None
    """Of instances, and of proposals; the best are kept. None is the limit of the archive."""
    classes: frozenset[int] | None = None
    """Instances of other classes are left out."""
    masks: str = RLE
    """``"rle"`` (COCO's, compressed), ``"polygon"`` (COCO's) or ``"none"``."""
    sem_seg: str = PNG
    """``"png"``: one label map; ``"rle"``: a COCO RLE for each class."""
    draw: str | None = None
    """``"png"`` or ``"jpeg"``: the reply is the picture with what was found drawn onto it."""

    @staticmethod
    def parse(options: Mapping[str, Any], spec: ModelSpec) -> RequestOptions:
        """The options of a request, by name; None is not given.

        Args:
            options: text, bytes (as forms and gRPC have them) or what JSON has.
            spec: the model's.

        Raises:
            InvalidOption: one does not exist, or has a value that it cannot have.
        """
        if not options:
            return DEFAULT_OPTIONS
        for name in options:
            if name not in NAMES:
                raise InvalidOption(
                    f"Got the option {_shown(name)}, which does not exist. Options are "
                    f"{', '.join(NAMES)}; leave out what is none."
                )
        given = {
            name: _as_text(value) if isinstance(value, (bytes, bytearray, memoryview)) else value
            for name, value in options.items()
            if value is not None
        }
        values: dict[str, Any] = {
            name: _READERS[name](name, value, spec) for name, value in given.items()
        }
        return RequestOptions(**values)


DEFAULT_OPTIONS = RequestOptions()
NAMES = tuple(field.name for field in fields(RequestOptions))


def _as_text(value: bytes | bytearray | memoryview) -> str:
    return bytes(value).decode("utf-8", errors="replace")


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else text[:40] + "..."


def _wrong(name: str, value: object, expected: str) -> InvalidOption:
    return InvalidOption(f"Got the option {name}={_shown(value)}, expected {expected}")


def _masks(name: str, value: Any, _: ModelSpec) -> str:
    return _one_of(name, value, (RLE, POLYGON, NONE), f"Leave it out for {RLE}.")


def _sem_seg(name: str, value: Any, _: ModelSpec) -> str:
    return _one_of(name, value, (PNG, RLE), f"Leave it out for {PNG}.")


def _draw(name: str, value: Any, _: ModelSpec) -> str:
    return _one_of(name, value, (PNG, JPEG), "Leave it out for JSON.")


def _one_of(name: str, value: Any, allowed: tuple[str, ...], else_what: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise _wrong(name, value, f"one of {', '.join(allowed)}. {else_what}")
    return value


def _score_thresh(name: str, value: Any, spec: ModelSpec) -> float:
    _need_instances(name, value, spec)
    try:
        number = float(value) if isinstance(value, (str, int, float)) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise _wrong(name, value, "a score from 0 to 1.")
    own = spec.score_thresh
    if own is not None and number < own:
        raise _wrong(
            name,
            value,
            f"{own:g} or more: below {own:g} this archive's model itself leaves instances out. "
            "For lower scores, export it with a lower score threshold.",
        )
    return number


def _max_detections(name: str, value: Any, spec: ModelSpec) -> int:
    if BOXES not in spec.outputs and PROPOSAL_BOXES not in spec.outputs:
        raise _wrong(name, value, "it to be left out: this model answers label maps only.")
    number = _whole(value)
    most = spec.limits.max_detections
    if number is None or not 1 <= number <= most:
        raise _wrong(name, value, f"a whole number from 1 to {most}.")
    return number


def _classes(name: str, value: Any, spec: ModelSpec) -> frozenset[int]:
    _need_instances(name, value, spec)
    known = spec.class_names or ()
    chosen: set[int] = set()
    for wish in _listed(name, value, known):
        number = _whole(wish)
        if wish in known:
            chosen.update(i for i, each in enumerate(known) if each == wish)
        elif number is not None and 0 <= number < (len(known) or 2**31):
            chosen.add(number)
        else:
            ids = f"ids from 0 to {len(known) - 1}" if known else "ids from 0 on"
            names = f" or names: {', '.join(known[:20])}" if known else ""
            more = ", ..." if len(known) > 20 else ""
            raise _wrong(name, wish, f"{ids}{names}{more}.")
    return frozenset(chosen)


def _listed(name: str, value: Any, known: Sequence[str]) -> Sequence[Any]:
    """A list, from JSON or from text: JSON's again, a name, or names with commas between."""
    if isinstance(value, str) and value not in known:
        if value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise _wrong(name, value, 'a list as JSON has it: ["circle", 2].') from None
        else:
            value = [each.strip() for each in value.split(",")]
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list) or not 1 <= len(value) <= 10_000:
        raise _wrong(name, value, "names or ids of classes, one at least: circle,2.")
    return value


def _whole(value: Any) -> int | None:
    """A whole number, as JSON or text has it."""
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    return None


def _need_instances(name: str, value: object, spec: ModelSpec) -> None:
    if BOXES not in spec.outputs:
        raise _wrong(name, value, "it to be left out: this model finds no instances.")


_READERS = {
    "score_thresh": _score_thresh,
    "max_detections": _max_detections,
    "classes": _classes,
    "masks": _masks,
    "sem_seg": _sem_seg,
    "draw": _draw,
}
