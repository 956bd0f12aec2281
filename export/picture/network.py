"""The network that is drawn: boxes, and the tensors that go between them."""

from __future__ import annotations

from dataclasses import dataclass

from d2serve.export.picture.operations import Shape

MODULE, FUNCTION, TERMINAL = "module", "function", "terminal"
"""What a block may be: with weights, without, and what goes in or comes out."""

MOST_BLOCKS = 30
"""That a picture may have: more cannot be read at a glance."""


@dataclass(frozen=True)
class Block:
    """One box: a part of a model, with all modules within."""

    name: str
    """Such as ``res2``."""
    detail: str
    """What it is made of or does, such as ``3 × BottleneckBlock``."""
    frame: str
    """The larger part that it belongs to, such as ``backbone``; empty for none."""
    role: str
    """MODULE, FUNCTION or TERMINAL."""
    path: str
    """Of its module in the model."""
    weights: int
    """Numbers that were learned."""
    multiply_adds: int | None
    """On the sample; None where they depend on sides that are not known."""
    row_multiply_adds: int | None = None
    """For each row, of what works on as many rows as were found."""
    rows: int | None = None
    """That it worked on."""
    seconds: float | None = None
    """None where the time was not measured."""
    is_idle: bool = False
    """Whether nothing of it ran."""


@dataclass(frozen=True)
class Edge:
    """Tensors that one block makes and another takes."""

    source: int
    """Place in the network's blocks."""
    target: int
    shapes: tuple[Shape, ...]
    """Of the tensors, without repetition; none where they are not known."""

    @property
    def goes_back(self) -> bool:
        """Whether a block takes what a later one makes, as the stages of a cascade do."""
        return self.target < self.source


@dataclass(frozen=True)
class Network:
    """A model as a picture shows it; blocks in the order in which they run."""

    title: str
    about: str
    """What is said below the title: of what, and on what, it was read."""
    blocks: tuple[Block, ...]
    edges: tuple[Edge, ...]

    @property
    def is_timed(self) -> bool:
        """Whether the time of its parts was measured."""
        return any(block.seconds for block in self.blocks)

    @property
    def shared(self) -> str:
        """What the percentages of the parts are of."""
        return "the time" if self.is_timed else "the multiply-adds"
