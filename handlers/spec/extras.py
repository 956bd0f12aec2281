"""What a model answers beyond detectron2's own fields: fields and keys that its author added.

A field of ``Instances`` belongs to each instance, a key of the model's dict to the image. A program
answers each under a name of its own, ``instances.extra.NAME`` or ``extra.NAME``: where it stands
in a reply, and what its tensor of the Open Inference Protocol is called.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from d2serve.handlers.spec.output_names import BOXES

INSTANCE, IMAGE = "instance", "image"
_PLACES = {INSTANCE: "instances.extra.", IMAGE: "extra."}

DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)
"""Those of detectron2's tensors that numpy has as well."""

TENSOR = "Tensor"
KINDS = (TENSOR, "Boxes", "RotatedBoxes", "Keypoints")
"""A tensor, or a structure of detectron2's that is made of one (``.tensor``)."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Extra:
    """One field or key of a model's own."""

    name: str
    """As detectron2's Instances, or the model's dict, have it."""
    per: str
    """``"instance"`` or ``"image"``."""
    kind: str
    """What it is in detectron2: one of KINDS."""
    dtype: str
    """By numpy's name."""
    shape: tuple[int | None, ...]
    """Of one instance's value, or of the image's; None where it differs from image to image."""

    @property
    def output(self) -> str:
        """The program's name of it."""
        return output_name(self.per, self.name)

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether one instance's value, or the image's, may be of this shape."""
        return len(shape) == len(self.shape) and all(
            expected in (None, side) for expected, side in zip(self.shape, shape)
        )

    @staticmethod
    def from_json(raw: dict[str, Any]) -> Extra:
        """Of a spec, or of a reply, whose types are right."""
        return Extra(**{**raw, "shape": tuple(raw["shape"])})


def output_name(per: str, name: str) -> str:
    """What a program calls a field or key of the model's own."""
    return _PLACES[per] + name


def is_name(name: object) -> bool:
    """Whether a field or key may have this name: letters, digits and ``_ . -``."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def is_extra(raw: object) -> bool:
    """Whether what JSON has is an Extra by its fields and their types."""
    return (
        isinstance(raw, dict)
        and raw.keys() == {"name", "per", "kind", "dtype", "shape"}
        and all(isinstance(raw[each], str) for each in ("name", "per", "kind", "dtype"))
        and isinstance(raw["shape"], list)
        and all(side is None or (type(side) is int and side >= 0) for side in raw["shape"])
    )


def problems_of_extras(extras: Sequence[Extra], outputs: Sequence[str]) -> list[str]:
    """What is wrong with the extras that a spec names, if anything.

    Args:
        extras: the spec's.
        outputs: of its program.
    """
    problems = []
    for each in extras:
        if not is_name(each.name):
            problems.append(f"an extra is called {each.name!r}, expected letters, digits and _ . -")
        problems += [
            f"{field} of the extra {each.name!r} is {value!r}, expected one of {allowed}"
            for field, value, allowed in (
                ("per", each.per, tuple(_PLACES)),
                ("kind", each.kind, KINDS),
                ("dtype", each.dtype, DTYPES),
            )
            if value not in allowed
        ]
        if each.per in _PLACES and each.output not in outputs:
            problems.append(f"outputs lack {each.output}, which is among the extras")
        if each.per == INSTANCE and BOXES not in outputs:
            problems.append(f"the extra {each.name!r} is of instances, which are not among outputs")
    if len({(each.per, each.name) for each in extras}) < len(extras):
        problems.append("two extras have the same name")
    return problems


def without_extras(extras: Sequence[Extra], outputs: Sequence[str]) -> tuple[str, ...]:
    """The outputs of a program that are detectron2's own."""
    own = {_PLACES[each.per] + each.name for each in extras if each.per in _PLACES}
    return tuple(output for output in outputs if output not in own)
