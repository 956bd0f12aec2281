"""Boxes and instances as detectron2's code and its evaluators expect them, without detectron2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Union

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Index = Union[int, slice, Tensor]


class Boxes:
    """Boxes x0, y0, x1, y1, as ``detectron2.structures.Boxes``."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        """(N, 4) float32, in pixels."""

    def area(self) -> Tensor:
        """(N,) in square pixels."""
        sizes = self.tensor[:, 2:] - self.tensor[:, :2]
        return sizes[:, 0] * sizes[:, 1]

    def get_centers(self) -> Tensor:
        """(N, 2) x, y."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def to(self, device: str | torch.device) -> Boxes:
        """The boxes on another device."""
        return Boxes(self.tensor.to(device))

    def __array__(self, dtype: Any = None, copy: Any = None) -> npt.NDArray[Any]:
        return np.array(self.tensor, dtype=dtype)

    def __getitem__(self, index: Index) -> Boxes:
        return Boxes(self.tensor[index].reshape(-1, 4))

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensor)

    def __len__(self) -> int:
        return len(self.tensor)

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"


class Instances:
    """What was found in an image, field by field, as ``detectron2.structures.Instances``."""

    def __init__(self, image_size: tuple[int, int], **fields: Any) -> None:
        self._image_size = image_size
        self._fields: dict[str, Any] = fields

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width), in pixels."""
        return self._image_size

    def has(self, name: str) -> bool:
        """Whether there is a field of this name."""
        return name in self._fields

    def get(self, name: str) -> Any:
        """A field."""
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """All fields by name."""
        return self._fields

    def to(self, device: str | torch.device) -> Instances:
        """The instances with all fields on another device."""
        moved = {name: value.to(device) for name, value in self._fields.items()}
        return Instances(self._image_size, **moved)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._fields:
            raise AttributeError(f"These instances have no field {name!r}: {[*self.get_fields()]}")
        return self._fields[name]

    def __getitem__(self, index: Index) -> Instances:
        chosen = slice(index, index + 1 or None) if isinstance(index, int) else index
        some = {name: value[chosen] for name, value in self._fields.items()}
        return Instances(self._image_size, **some)

    def __len__(self) -> int:
        return len(next(iter(self._fields.values())))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}: {value!r}" for name, value in self._fields.items())
        return f"Instances({len(self)}, image_size={self._image_size}, {fields})"
