"""Numbers in a graph that depend on the image, as symbols of their own.

torch otherwise keeps the formula by which a size follows from that of the image. Each tensor would
carry it, and whoever loads the program would read it again and again.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fresh(number: int) -> int:
    """The same number, of which the graph knows no more than that it is one."""
    # Without the copy torch remembers what the tensor was made of.
    return int_of(torch.scalar_tensor(number, dtype=torch.int64).clone())


def at_most(number: int, limit: int) -> int:
    """The smaller of the two."""
    found = int_of(torch.scalar_tensor(number, dtype=torch.int64).clamp(max=limit))
    torch._check(found >= 0)
    torch._check(found <= number)
    # torch would take it for as large as an integer can be, and sums of such for more.
    torch._check(found <= limit)
    return found


def first(most: int, indices: Tensor) -> Tensor:
    """The first of them, so many where there are more."""
    return indices.narrow(0, 0, at_most(indices.shape[0], most))


def int_of(tensor: Tensor) -> int:
    """The number in a tensor; while a model is exported, a symbol."""
    number: int = tensor.item()  # type: ignore[assignment]
    return number
