"""Why: the JSON, the table and the plot show one record of a run, whose fields are its schema."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from benchmarks.agreement import Agreement, Workload
from benchmarks.cold_start import ColdStart
from benchmarks.load import Load
from benchmarks.machine import Machine
from benchmarks.memory import Memory
from benchmarks.pieces import Pieces
from benchmarks.plan import BenchPlan, Setup
from benchmarks.summary import Summary

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Probe:
    """One setup of one side, tried briefly."""

    setup: Setup
    throughput: float
    """Images per second."""
    median_latency: float
    """Seconds."""


@dataclass(frozen=True)
class SideResult:
    """Everything that was measured of one side."""

    probes: tuple[Probe, ...]
    setup: Setup
    """With the highest throughput in the probe; the rounds were measured with it."""
    rounds: tuple[Load, ...]
    summary: Summary
    """Beside the eager side's."""
    cold_start: ColdStart
    memory_after_run: Memory
    """Mean of its workers after the last round."""
    pieces: Pieces
    agreement: Agreement | None
    """With the eager side's answer, the largest over all setups; None for the eager side itself."""


@dataclass(frozen=True)
class BenchResults:
    """One run."""

    date: str
    """Of its start, UTC, ISO 8601."""
    seconds: float
    """That the whole run took."""
    machine: Machine
    plan: BenchPlan
    picture_bytes: int
    workload: Workload
    sides: dict[str, SideResult]
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The text of results.json."""
        return json.dumps(asdict(self), indent=1) + "\n"
