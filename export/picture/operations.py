"""What every reader of a model makes of it: operations in the order they run, by module.

A network's picture has some twenty boxes, a model some thousand operations. Whether they were seen
while eager detectron2 ran or stand in a file, they are brought to this one form first, from which
``condensing`` makes the boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Side(NamedTuple):
    """One side of a tensor."""

    size: int | None
    """None where it varies and nobody ran the model."""
    varies: bool = False
    """Whether it depends on the image."""


Shape = tuple[Side, ...]

INPUT, OUTPUT = "input", "output"
"""The kinds of the operations that stand for what goes in and what comes out."""


@dataclass
class Operation:
    """One operation of a model."""

    path: str
    """Of the module in whose ``forward`` it runs, such as ``backbone.bottom_up.stem``."""
    step: int
    """How many modules within that one have run before it: what tells before from after."""
    kind: str
    inputs: tuple[int, ...]
    """Places, in the list of operations, of those whose results it takes."""
    shape: Shape | None
    """Of its first result; None where a file does not say."""
    multiply_adds: int | None = 0
    """On the sample; of one row where it ran on none. None where they depend on unknown sides."""
    rows: int | None = None
    """Of its result, for what multiplies."""
    name: str = ""
    """Of an input or output."""


@dataclass
class Flow:
    """A model as operations, and what its modules hold."""

    operations: list[Operation]
    weights: Mapping[str, int]
    """Numbers that were learned, by the module that has them itself."""
    kinds: Mapping[str, str]
    """The classes of modules, where they are known."""
    seconds: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """How long what ran at (path, step) took, where it was measured."""
    is_scattered: bool = False
    """Whether some of a part may stand long before the rest, as in files of OpenVINO's."""


def parent_of(path: str) -> str:
    """The path of the module around one."""
    return path.rpartition(".")[0]
