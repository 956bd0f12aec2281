"""The record of a run, which the JSON, the tables and the plot show. Its fields are the schema."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from benchmarks.pieces.layers import LayerTimes
from benchmarks.pieces.mask_encoders import MaskTiming
from benchmarks.pieces.request import Pieces
from benchmarks.serving.agreement import Agreement, Workload
from benchmarks.serving.cold_start import ColdStart
from benchmarks.serving.load import Load
from benchmarks.serving.long_run import LongRun
from benchmarks.serving.measuring import Probe
from benchmarks.serving.pairs import Pair
from benchmarks.serving.parts import Parts
from benchmarks.serving.plan import BenchPlan, Setup
from benchmarks.serving.summary import Summary
from benchmarks.shared.machine import Machine
from benchmarks.shared.memory import Memory
from d2serve.server.measuring.figures import Figure

SCHEMA_VERSION = 3


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
    cold_start_ratio: Figure
    """To the eager side's of the same turn."""
    memory_after_run: Memory
    """Mean of its workers after the last round."""
    pieces: Pieces | None
    """None for the sides that are another server around eager's pieces, or another model."""
    agreement: Agreement | None
    """With the eager side's answer, the poorest over all setups."""


@dataclass(frozen=True)
class BenchResults:
    """One run."""

    date: str
    """Of its start, UTC, ISO 8601."""
    steps: dict[str, float]
    """Seconds that each step took, in their order."""
    machine: Machine
    plan: BenchPlan
    picture_bytes: int
    workload: Workload
    model_operations: float
    """Of one forward: twice its multiplications with an addition."""
    sides: dict[str, SideResult]
    mask_encoders: dict[str, MaskTiming]
    """By whose masks they were."""
    long_runs: dict[str, LongRun]
    """By side."""
    left_out: dict[str, str]
    """Sides that this machine cannot serve, each with the reason."""
    winograd: tuple[str, ...]
    """Ways in which its CPU runs Winograd's convolution, the fastest last; none where the native
    code is not installed."""
    layers: tuple[LayerTimes, ...]
    parts: dict[str, Parts]
    """By side."""
    pairs: dict[str, Pair]
    """By side."""
    schema_version: int = SCHEMA_VERSION

    @property
    def seconds(self) -> float:
        """That the whole run took."""
        return sum(self.steps.values())

    def to_json(self) -> str:
        """The text of results.json."""
        return json.dumps(asdict(self), indent=1) + "\n"
