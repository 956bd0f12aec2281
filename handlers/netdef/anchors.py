"""The anchors of RetinaNet, which its ``model.pb`` keeps as detectron2's generator of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from d2serve.handlers.errors import LoadError
from d2serve.handlers.netdef.unpickling import Module, UnpicklingRefused, read_saved

_CLASSES = {
    "detectron2.modeling.anchor_generator": frozenset({"DefaultAnchorGenerator", "BufferList"})
}


@dataclass(frozen=True)
class AnchorGenerator:
    """Where anchors stand on each level, as DefaultAnchorGenerator lays them out."""

    cells: Sequence[Tensor]
    """By level, (A, 4) x0, y0, x1, y1 of the anchors of a cell, from its own place."""
    strides: Sequence[float]
    """By level, pixels from one cell to the next."""
    offset: float
    """Of the first cell, in strides."""

    def on(self, level: int, height: int, width: int) -> Tensor:
        """(height * width * A, 4) the anchors of a level with so many cells."""
        stride = self.strides[level]
        x, y = (
            torch.arange(self.offset * stride, side * stride, stride, dtype=torch.float32)
            for side in (width, height)
        )
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        shifts = torch.stack([columns.ravel(), rows.ravel()] * 2, dim=1)
        return (shifts[:, None] + self.cells[level]).reshape(-1, 4)


def read_anchor_generator(data: bytes) -> AnchorGenerator:
    """Read ``serialized_anchor_generator``.

    Raises:
        LoadError: it is damaged, holds what is not read from a stranger, or another generator.
    """
    try:
        made = read_saved(data, _CLASSES)
        cells = [torch.from_numpy(each().copy()) for each in _buffers(made)]
        strides = [float(each) for each in made.strides]
        offset = float(getattr(made, "offset", 0.0))  # the first versions had none
    except UnpicklingRefused as error:
        raise LoadError(
            f"The anchor generator in model.pb is not read: {error}. Expected detectron2's "
            "DefaultAnchorGenerator. Take the file only from whom you trust, and export the model "
            "again if you can."
        ) from None
    except (AttributeError, TypeError, ValueError):
        raise LoadError(
            "model.pb has an anchor generator that is not laid out as detectron2's "
            "DefaultAnchorGenerator: export the model again with `d2serve export`."
        ) from None
    if len(cells) != len(strides) or not all(each.shape[1:] == (4,) for each in cells):
        raise LoadError(
            "model.pb has anchors of rotated boxes or other levels: it is not run here."
        )
    return AnchorGenerator(cells, strides, offset)


def _buffers(generator: Any) -> list[Any]:
    if not isinstance(generator, Module):
        raise UnpicklingRefused(f"it holds a {type(generator).__name__}")
    anchors = generator._modules["cell_anchors"]  # type: ignore[attr-defined]
    return list(anchors._buffers.values())
