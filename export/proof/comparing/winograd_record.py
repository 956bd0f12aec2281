"""What an export finds with Winograd's convolutions in a program, as the archive has it."""

from __future__ import annotations

from dataclasses import dataclass

from d2serve.export.proof.comparing.comparison import Difference
from d2serve.handlers.spec.bounds import Bounds


@dataclass(frozen=True)
class WithWinograd:
    """What an export found with Winograd's convolutions in the program."""

    within_bounds: bool | None
    """None where they could not be tried."""
    note: str
    """Why they could not, or what was wrong."""
    bounds: Bounds | None = None
    differences: tuple[Difference, ...] = ()
