"""The whole benchmark on a model of a few neurons, with real servers."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from benchmarks.report.overview import as_markdown
from benchmarks.served.fastapi_process import FastApiProcess
from benchmarks.served.possible import left_out
from benchmarks.served.sides import (
    CPP,
    EAGER,
    FASTAPI,
    OPENVINO,
    OPENVINO_DIRECT,
    SIDES,
    TORCHVISION,
    TRACING,
)
from benchmarks.serving.plan import BenchPlan
from benchmarks.serving.run import run
from benchmarks.shared.errors import BenchError
from d2serve.export.request import Progress

NARROW = (
    *("INPUT.MIN_SIZE_TEST", 96, "INPUT.MAX_SIZE_TEST", 128),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 8, "MODEL.RESNETS.STEM_OUT_CHANNELS", 8),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.RPN.PRE_NMS_TOPK_TEST", 200, "MODEL.RPN.POST_NMS_TOPK_TEST", 100),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 64, "MODEL.ROI_MASK_HEAD.CONV_DIM", 32),
    *("TEST.DETECTIONS_PER_IMAGE", 10),
)
_PLAN = BenchPlan(
    sides=(EAGER, FASTAPI, TORCHVISION, TRACING, OPENVINO_DIRECT, OPENVINO, CPP),
    overrides=NARROW,
    picture_size=(135, 180),
    input_size=(96, 128),
    detections=10,
    export_size=(96, 128),
    piece_repeats=2,
    forward_seconds=0.05,
    cold_starts=2,
    cold_start_sides=(EAGER,),
    part_sides=(OPENVINO,),
    part_rounds=1,
    few_instances=3,
    layer_repeats=1,
    rounds=2,
    total_seconds=0.0,
    long_run_sides=(TRACING,),
    pause_seconds=0.0,
    sizes=6,
    fresh_workers=1,
    few_requests=14,
    many_requests=20,
)


@pytest.mark.server
@pytest.mark.export
@pytest.mark.long
def test_a_tiny_run_measures_every_side() -> None:
    begun: list[str] = []
    results = run(_PLAN, Progress(lambda step, _parts: begun.append(step), lambda: None))
    assert list(results.steps) == begun
    assert results.left_out == left_out(_PLAN.sides)
    assert list(results.sides) == [side for side in _PLAN.sides if side not in results.left_out]
    for name, side in results.sides.items():
        assert len(side.rounds) == 2
        assert all(load.throughput > 0 for load in side.rounds)
        assert {probe.setup for probe in side.probes} >= {side.setup}
        assert side.memory_after_run.rss > 50
        assert (side.pieces is None) == (name in (FASTAPI, TORCHVISION, CPP))
        if SIDES[name].bounds is not None:
            assert side.agreement is not None
            assert side.agreement.within_bounds >= 9
    (parts,) = results.parts.values()
    assert all(each.value > 0 for each in parts.throughput.values())
    (pair,) = results.pairs.values()
    assert pair.both > 50
    assert results.workload.detections == 10
    assert results.model_operations > 1e7
    assert {timing.identical for timing in results.mask_encoders.values()} == {10}
    assert len(set(results.long_runs[TRACING].fresh[0].input_pixels)) > 1
    assert SIDES[TORCHVISION].label in as_markdown(results)
    assert not [child for child in psutil.Process().children() if "java" in child.name()]


def test_a_picture_of_another_size_is_refused() -> None:
    plan = BenchPlan(overrides=NARROW, picture_size=(135, 180), input_size=(800, 1066))
    with pytest.raises(BenchError, match=r"as \(96, 128\), expected \(800, 1066\)"):
        run(plan, Progress(lambda _step, _parts: None, lambda: None))


@pytest.mark.server
def test_a_fastapi_process_that_cannot_start_says_why_and_is_gone(tmp_path: Path) -> None:
    with FastApiProcess(tmp_path, threads=1) as process:
        with pytest.raises(BenchError, match=r"(?s)not READY .*config\.yaml"):
            process.wait_ready()
        pid = process.pid
    assert not psutil.pid_exists(pid)
