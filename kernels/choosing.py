"""Which layers gain by Winograd's algorithm: known by their channels, as `benchmarks/layers` finds.

It is a rule and no measurement at load. What a busy machine measures differs from one worker to the
next, and then so would their answers, in the last digits.
"""

from __future__ import annotations

from d2serve.kernels.library import ways

_FEWEST_CHANNELS = 16
"""Below, the transforms cost as much as they save."""
_MOST_WEIGHTS = 256 * 256
"""Pairs of channels. Above, layers see small maps: reading weights 7.1 times as large costs what
the arithmetic gains, and they would take more memory than all others together."""


def is_fast() -> bool:
    """Whether this CPU has instructions that the native code is written for."""
    return ways()[-1] != "portable"


def pays(outs: int, ins: int) -> bool:
    """Whether a 3x3 convolution of so many channels is to be Winograd's on this CPU."""
    return is_fast() and min(outs, ins) >= _FEWEST_CHANNELS and outs * ins <= _MOST_WEIGHTS
