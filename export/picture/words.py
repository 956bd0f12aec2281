"""Numbers and shapes as a picture says them."""

from __future__ import annotations

from collections.abc import Sequence

from d2serve.export.picture.network import TERMINAL, Block, Network
from d2serve.export.picture.operations import Shape, Side

_UNITS = ((10**12, " T"), (10**9, " G"), (10**6, " M"), (10**3, " k"))
_MOST_SHAPES = 2
_LONGEST = 30


def amount(count: int) -> str:
    """A number in three digits: ``1.44 G``."""
    for size, unit in _UNITS:
        if count >= size:
            scaled = count / size
            digits = 2 if scaled < 10 else 1 if scaled < 100 else 0
            return f"{scaled:.{digits}f}{unit}"
    return str(count)


def shape_text(shape: Shape) -> str:
    """A shape such as ``1×256×~120×~160``; ``~`` marks sides that depend on the image."""
    return "×".join(map(_side, shape)) or "1"


def _side(side: Side) -> str:
    if not side.size and side.varies:
        return "~"
    return f"~{side.size}" if side.varies else str(side.size)


def shapes_text(shapes: Sequence[Shape]) -> str:
    """The shapes that go along an edge, in little room: the largest first."""
    ordered = [shape_text(shape) for shape in sorted(shapes, key=_bulk, reverse=True)]
    if len(ordered) <= _MOST_SHAPES and len(", ".join(ordered)) <= _LONGEST:
        return ", ".join(ordered)
    return f"{ordered[0]} … ({len(ordered)})"


def _bulk(shape: Shape) -> int:
    total = 1
    for side in shape:
        total *= side.size or 1
    return total


def figures_of(block: Block) -> str:
    """A box's weights and multiply-adds."""
    found = [f"{amount(block.weights)} weights"] if block.weights else []
    if block.is_idle:
        found.append("not run")
    elif block.row_multiply_adds is not None and not block.rows:
        found.append(f"{amount(block.row_multiply_adds)} mult-adds for each")
    elif block.row_multiply_adds is not None:
        found.append(f"~{block.rows} × {amount(block.row_multiply_adds)} mult-adds")
    elif block.multiply_adds:
        found.append(f"{amount(block.multiply_adds)} mult-adds")
    return " · ".join(found)


def share_of(block: Block, network: Network) -> float | None:
    """A block's share of the time where it was measured, else of the multiply-adds."""
    if block.role == TERMINAL or block.is_idle:
        return None
    if network.is_timed:
        return (block.seconds or 0.0) / (sum(each.seconds or 0.0 for each in network.blocks) or 1.0)
    total = sum(each.multiply_adds or 0 for each in network.blocks)
    return block.multiply_adds / total if total and block.multiply_adds else None


def totals_of(network: Network) -> str:
    """A whole network's weights and multiply-adds, and what its percentages are of."""
    found = [f"{amount(sum(block.weights for block in network.blocks))} weights"]
    multiply_adds = sum(block.multiply_adds or 0 for block in network.blocks)
    if multiply_adds:
        found.append(f"{amount(multiply_adds)} multiply-adds")
        found.append(f"percentages: share of {network.shared}")
    return " · ".join(found)


LEGEND = "~ marks what depends on the image · a dashed box has no weights · a dashed line goes back"


def about_model(family: str, height: int, width: int) -> str:
    """What is said of the picture of an eager model that answered an image of this size."""
    return f"{family}, as eager detectron2 answers an image of {height}×{width}"
