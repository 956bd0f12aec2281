"""The record of the runs, from which the page is made and against which it is checked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import this_machine

RESULTS = Path(__file__).resolve().parent.parent / "results" / "coverage.json"

TRACING, SCRIPTING, ONNXRUNTIME, OPENVINO = ZOO_KINDS = (
    "tracing",
    "scripting",
    "onnxruntime",
    "openvino",
)
"""Of a row of the model zoo."""
CPP_OPENVINO, CPP_LIBTORCH = CPP_KINDS = ("cpp_openvino", "cpp_libtorch")
"""The C++ program with either engine."""
ONNXRUNTIME_WINOGRAD, OPENVINO_WINOGRAD = WINOGRAD_KINDS = (
    "onnxruntime_winograd",
    "openvino_winograd",
)
"""The programs of two other kinds, with our convolutions wherever they fit."""
CAFFE2, TENSORFLOW, TORCH_EXPORT = "caffe2", "tensorflow", "torch_export"
ONNXRUNTIME_GRAPH, OPENVINO_GRAPH = GRAPH_KINDS = ("onnxruntime_graph", "openvino_graph")
"""ONNX by ``--export-method torch_export``."""
FORMAT_KINDS = (
    *ZOO_KINDS,
    *WINOGRAD_KINDS,
    *CPP_KINDS,
    CAFFE2,
    TENSORFLOW,
    TORCH_EXPORT,
    *GRAPH_KINDS,
)
"""Of a row of an example model."""

HELD_OUT = 12
"""Images on which the example models are compared."""

EXPORTS, DIFFERS, REFUSED, FAILED = "exports", "differs", "refused", "failed"
"""Verdicts: within the bounds, out of them, refused with a reason, and what nobody expected."""


@dataclass(frozen=True)
class Cell:
    """One way of export of one configuration."""

    verdict: str
    message: str = ""
    """The refusal, or what is out of bounds; empty where it exports."""
    rewrites: tuple[str, ...] = ()
    images: int = 0
    """On which it was compared, those of batches among them."""
    detections: int = 0
    """Instances, proposals, or otherwise labels that were compared on them."""
    within: int | None = None
    """Of the detections, how many have a counterpart within the bounds; where it differs only."""
    box_px: float = 0.0
    score: float = 0.0
    keypoint_px: float = 0.0
    masks_differing: int = 0
    labels_differing: int = 0
    segments_differing: int = 0


@dataclass(frozen=True)
class Row:
    """One configuration."""

    config: str
    family: str | None
    """None where the config is refused before its model is known."""
    cells: dict[str, Cell]
    """By kind."""
    made: tuple[str, ...] = ()
    """The days of the runs."""
    cpus: tuple[str, ...] = ()
    """Of the machines that they were on."""
    seconds: float = 0.0
    same_as: str | None = None
    """The configuration that describes the same model, whose run counts for this one."""


def new_row(config: str) -> Row:
    """A row of this day and machine, without cells."""
    return Row(config, None, {}, (str(date.today()),), (this_machine().cpu,))


@dataclass
class Coverage:
    """Everything that is on the page."""

    versions: dict[str, str]
    reasons: dict[str, str] = field(default_factory=dict)
    """Why each rewrite is needed, by name."""
    zoo: dict[str, Row] = field(default_factory=dict)
    examples: dict[str, Row] = field(default_factory=dict)


def write(coverage: Coverage, file: Path = RESULTS) -> None:
    """Write the record, with rows in order of their names."""
    coverage.zoo = dict(sorted(coverage.zoo.items()))
    coverage.examples = dict(sorted(coverage.examples.items()))
    part = file.with_suffix(".part")
    part.write_text(json.dumps(asdict(coverage), indent=1) + "\n", encoding="utf-8")
    part.replace(file)


def read(file: Path = RESULTS) -> Coverage:
    """Read the record."""
    raw = json.loads(file.read_text(encoding="utf-8"))
    zoo, examples = (
        {config: row_of(row) for config, row in raw.pop(name).items()}
        for name in ("zoo", "examples")
    )
    return Coverage(**raw, zoo=zoo, examples=examples)


def row_of(raw: dict[str, Any]) -> Row:
    """A row of what ``asdict`` made of it."""
    cells = {
        kind: Cell(**{**cell, "rewrites": tuple(cell["rewrites"])})
        for kind, cell in raw["cells"].items()
    }
    several = {name: tuple(raw[name]) for name in ("made", "cpus")}
    return Row(**{**raw, "cells": cells, **several})
