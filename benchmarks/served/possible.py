"""Which sides can be served here: what needs a compiler is left out where there was none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.served.sides import CPP, SIDES
from d2serve.kernels.library import ways

CPP_PROGRAM = Path(__file__).resolve().parents[2] / "examples/cpp/build/bin/d2serve_predict"


def left_out(sides: Sequence[str], program: Path = CPP_PROGRAM) -> dict[str, str]:
    """Why some of these sides cannot be served here, by side."""
    why = {}
    if CPP in sides and not program.is_file():
        why[CPP] = "the program is not built here, which takes a C++ compiler: make cpp"
    if not ways():
        for side in sides:
            if "convolution" in SIDES[side].settings:
                why[side] = (
                    "the native code of kernels/ is not installed here, so every convolution is "
                    "direct on all sides"
                )
    return why
