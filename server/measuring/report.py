"""What was measured as JSON: for machines, and to be kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from d2serve.handlers.timing import STEPS
from d2serve.server.measuring.advice import Advice
from d2serve.server.measuring.images import Images
from d2serve.server.measuring.machine import Machine
from d2serve.server.measuring.plan import Cell, reference_of
from d2serve.server.measuring.session import Measured


def report_of(
    machine: Machine, images: Images, measured: Measured, advice: Advice | None
) -> dict[str, Any]:
    """All figures of a run. Rates are images a second, times milliseconds, memory MiB; ratios are
    to the first archive's best setup."""
    reference = reference_of(measured.cells)
    return {
        "machine": asdict(machine),
        "images": {"described": images.described, "drawn": images.drawn},
        "rounds": measured.rounds,
        "seconds": round(measured.seconds, 1),
        "interrupted": measured.interrupted,
        "rows": [_row(cell, reference) for cell in measured.cells],
        "advice": None if advice is None else _advice(advice),
        "notes": measured.notes,
    }


def _row(cell: Cell, reference: Cell) -> dict[str, Any]:
    spec, setup = cell.subject.spec, cell.setup
    return {
        "archive": cell.subject.name,
        "runtime": spec.runtime,
        "precision": spec.precision,
        "method": spec.method,
        **asdict(setup),
        "rounds": len(cell.stretches),
        "images_per_second": asdict(cell.rate),
        "ratio": asdict(cell.ratio(reference)),
        "latency_ms": {f"p{percent}": 1000 * cell.latency(percent).value for percent in (50, 99)},
        "steps_ms": {name: cell.step(name) for name in STEPS},
        "memory_mib": cell.memory_mib,
        "start_seconds": cell.start_seconds,
        "objects": cell.objects,
    }


def _advice(advice: Advice) -> dict[str, Any]:
    lines = [{"file": where, "line": line} for where, line in advice.lines]
    return {"archive": advice.archive, "lines": lines, "reasons": list(advice.reasons)}
