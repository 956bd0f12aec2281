"""The answer to a probe: yes, or no and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MOST_REASONS = 10


@dataclass(frozen=True)
class Verdict:
    """``reasons`` says why not; without any the answer is yes."""

    reasons: tuple[str, ...] = ()

    @property
    def is_yes(self) -> bool:
        return not self.reasons


YES = Verdict()


def no(*reasons: str) -> Verdict:
    """A verdict that says why not."""
    return Verdict(reasons)


def of(reasons: Sequence[str]) -> Verdict:
    """The verdict of what speaks against it, shortened to what a probe's reader wants to read."""
    if len(reasons) <= _MOST_REASONS:
        return Verdict(tuple(reasons))
    left = len(reasons) - _MOST_REASONS
    return Verdict((*reasons[:_MOST_REASONS], f"and {left} more"))
