"""Which convolutions a program runs with: its runtime's own, or ours by Winograd's algorithm.

It is chosen by the model's YAML::

    convolution: direct

Winograd's need fewer multiplications and give the same answer within the runtime's bounds. They
come from d2serve's native code, which is part of no archive: where it is not installed, every
program runs with its runtime's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from d2serve.handlers.errors import LoadError
from d2serve.handlers.spec.runtimes import FP32, RUNTIMES

SETTING = "convolution"
AUTO, WINOGRAD, DIRECT = "auto", "winograd", "direct"
CONVOLUTIONS = (AUTO, WINOGRAD, DIRECT)
"""``auto`` takes Winograd's where the export has verified them and they are faster here."""

RECORD, WITHIN_BOUNDS = "winograd", "within_bounds"
"""In a spec's verification: what an export found with Winograd's convolutions, and whether that was
within bounds; null where it could not try them."""


def checked(choice: object) -> str:
    """The choice of a model's YAML.

    Raises:
        LoadError: it is none.
    """
    if choice not in CONVOLUTIONS:
        raise LoadError(
            f"{SETTING} is {choice!a}, expected one of {', '.join(CONVOLUTIONS)}. Correct it in "
            "the model's YAML, or leave it out."
        )
    return str(choice)


def require_replaceable(runtime: str, precision: str, choice: str) -> None:
    """Refuse Winograd's convolutions by name where a program cannot have them.

    Raises:
        LoadError: its runtime takes none of ours, or it is not in fp32.
    """
    if choice != WINOGRAD:
        return
    facts = RUNTIMES[runtime]
    advice = f"Leave {SETTING} out of the model's YAML, or set it to {DIRECT}."
    if facts.winograd is None:
        able = " and ".join(each.title for each in RUNTIMES.values() if each.winograd is not None)
        raise LoadError(
            f"{SETTING} is {WINOGRAD}, but {facts.title} runs its own convolutions only; {able} "
            f"can run others. {advice}"
        )
    if precision != FP32:
        raise LoadError(
            f"{SETTING} is {WINOGRAD}, but the program is in {precision}, and Winograd's "
            f"convolutions are in {FP32}. {advice}"
        )


def is_automatic(runtime: str, verification: Mapping[str, Any]) -> bool:
    """Whether ``auto`` may take Winograd's convolutions: the export found its answers with them
    within the bounds that the runtime has without them."""
    record = verification.get(RECORD)
    found_good = isinstance(record, Mapping) and record.get(WITHIN_BOUNDS) is True
    return found_good and RUNTIMES[runtime].takes_winograd_itself
