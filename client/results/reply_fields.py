"""Reads the parts of a reply, each with the same strictness, and refuses them in the same words.

These raise TypeError or ValueError with what is wrong; ``parse_prediction`` makes of them the one
MalformedReply that names the reply as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, TypeVar

T = TypeVar("T")


def required(item: Any, name: str, kind: Any) -> Any:
    """The field ``name`` of ``item``, which must be there and of this kind."""
    if not isinstance(item, Mapping):
        raise TypeError(f"expected an object with {name!r}, got {type(item).__name__}")
    if name not in item:
        raise ValueError(f"{name!r} is missing")
    return typed(item[name], kind, name)


def optional(item: Mapping[str, Any], name: str, parse: Callable[[Any], T]) -> T | None:
    """What ``parse`` makes of the field ``name``; None where it is absent or null."""
    return parse(item[name]) if item.get(name) is not None else None


def optional_text(item: Mapping[str, Any], name: str) -> str | None:
    return optional(item, name, lambda value: str(typed(value, str, name)))


def typed(value: Any, kind: Any, name: str) -> Any:
    """``value`` itself, if it is of this kind. True and False are no numbers."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name!r} is of type {type(value).__name__}")
    return value


def natural(item: Any, name: str, *, least: int = 0, most: int | None = None) -> int:
    """The field ``name`` as a whole number within these bounds."""
    number: int = required(item, name, int)
    if number < least or (most is not None and number > most):
        bounds = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{name!r} is {number}, not {bounds}")
    return number


def floats(value: Any, length: int, name: str) -> tuple[float, ...]:
    """``value`` as so many numbers."""
    numbers = tuple(float(typed(n, (int, float), name)) for n in typed(value, list, name))
    if len(numbers) != length:
        raise ValueError(f"{name!r} has {len(numbers)} numbers, not {length}")
    return numbers


def image_size(item: Any, image: tuple[int, int], what: str) -> tuple[int, int]:
    """The field ``size`` of ``item``, [height, width], which must be that of the image."""
    size = [typed(side, int, "size") for side in required(item, "size", list)]
    if size != list(image):
        raise ValueError(
            f"the 'size' of {what} is {size}, not the image's [height, width] {list(image)}"
        )
    return image
