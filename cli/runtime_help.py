"""What the help of ``d2serve export`` says of formats, runtimes and precisions.

It is made of the table of runtimes, so that a new one is named without another thought.
"""

from __future__ import annotations

from collections.abc import Sequence

from d2serve.handlers.spec.runtimes import (
    FP32,
    RUNTIMES,
    formats,
    runtimes_of,
)


def _or(names: Sequence[str]) -> str:
    return " or ".join((", ".join(names[:-1]), names[-1]) if len(names) > 1 else names)


def _choices_of_runtimes() -> str:
    choices = ((format_, runtimes_of(format_)) for format_ in formats())
    return " ".join(
        f"For --format {format_}: {_or(names)}; default: {names[0]}."
        for format_, names in choices
        if len(names) > 1
    )


def _choices_of_precisions() -> str:
    lower = {
        facts.title: [each for each in facts.precisions if each != FP32]
        for facts in RUNTIMES.values()
    }
    able = ", ".join(f"{_or(names)} for {title}" for title, names in lower.items() if names)
    return f"{FP32}, or at a measured price in AP {able}."


def _choices_of_frozen() -> str:
    able = [facts.title for facts in RUNTIMES.values() if facts.frozen_file]
    return f"Write the program as one file with its weights as constants ({_or(able)} only)."


def _choices_of_batches() -> str:
    able = [facts.title for facts in RUNTIMES.values() if facts.joining_methods]
    always = [
        f"{facts.title} by --export-method {method}"
        for facts in RUNTIMES.values()
        for method in facts.batching_methods
    ]
    return (
        f"Write a program that takes several images of any sizes in one call ({_or(able)}; "
        f"{_or(always)} always does)."
    )


FORMAT_HELP = f"{_or(formats())}."
RUNTIME_HELP = _choices_of_runtimes()
PRECISION_HELP = _choices_of_precisions()
DYNAMIC_BATCH_HELP = _choices_of_batches()
FROZEN_HELP = _choices_of_frozen()
