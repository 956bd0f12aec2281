"""Whether an archive's answers hold with Winograd's convolutions in its program, too.

What an export finds goes into the record, and a server takes them by itself only where they held.
An archive is written in any case: it answers as well without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from d2serve.export.errors import VerificationError
from d2serve.export.proof.cases import Case
from d2serve.export.proof.comparing.winograd_record import WithWinograd
from d2serve.export.proof.reference import Reference
from d2serve.export.proof.verification import measured
from d2serve.handlers.spec.bounds import Bounds
from d2serve.handlers.spec.convolution import WINOGRAD
from d2serve.kernels.library import ways

_PORTABLE = 1
"""Ways of a CPU that has none of the fast ones."""


def why_not_here() -> str:
    """Why Winograd's convolutions are not tried on this machine; empty where they are."""
    found = ways()
    if not found:
        return "d2serve's native code was not installed where this was exported"
    if len(found) == _PORTABLE:
        return "the CPU that this was exported on has no AVX2"
    return ""


def with_winograd(
    model_dir: Path,
    oracle: Reference,
    cases: Sequence[Case],
    bounds: Bounds,
    progress: Callable[[], None],
) -> WithWinograd:
    """Compare an extracted archive with a reference, with Winograd's in place of every convolution
    that fits; ``auto`` takes some of them.

    Args:
        model_dir: the extracted archive, which has been verified without them.
        oracle: what it was verified with; see ``Remembering``.
        cases: the images.
        bounds: within which the answers agree.
        progress: called after each case, on either side.
    """
    try:
        record, _crowded = measured(
            model_dir, oracle, cases, bounds, convolution=WINOGRAD, progress=progress
        )
    except VerificationError as error:
        return WithWinograd(False, str(error))
    missed = [
        f"{each.image}: {', '.join(each.misses)}" for each in record.differences if each.misses
    ]
    return WithWinograd(not missed, "; ".join(missed[:5]), bounds, record.differences)
