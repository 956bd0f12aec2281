"""Whether a CPU has instructions for bf16 and int8, which otherwise are slower than fp32, or wrong.

OpenVINO says whether it has bf16; that it lists int8 says nothing of the CPU, so that is read from
the CPU's flags.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# Dot products of bytes, by what Linux calls them: x86's VNNI, on 512 bits and on 256, and Arm's.
_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})


def slow_precision(precision: str, capabilities: Iterable[str]) -> str | None:
    """Why a precision should not be used on this CPU, or None where it may be.

    Args:
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"``.
        capabilities: OpenVINO's ``OPTIMIZATION_CAPABILITIES`` of the CPU.
    """
    if precision == "bf16" and "BF16" not in capabilities:
        return "this CPU has no bf16 instructions (AVX512_BF16 or AMX)"
    if precision == "int8" and _flags().isdisjoint(_DOT_PRODUCTS):
        return f"no int8 dot products (VNNI) can be seen on this CPU ({platform.machine()})"
    return None


def _flags() -> frozenset[str]:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return frozenset()
    return frozenset(
        flag
        for line in lines
        if line.lower().startswith(("flags", "features"))
        for flag in line.partition(":")[2].split()
    )
