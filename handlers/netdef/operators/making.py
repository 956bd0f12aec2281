"""What the tables of operators hold: how to make a step of a net from an operator's arguments.

Arguments are read once, when a net is loaded: one that cannot be run is refused there, and a call
costs nothing but the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Union

from torch import Tensor

from d2serve.handlers.netdef.arguments import Arguments

Step = Callable[..., Union[Tensor, tuple[Tensor, ...]]]
"""From the input tensors to the output, or outputs, of which a net may take the first only."""
Maker = Callable[[Arguments], Step]
