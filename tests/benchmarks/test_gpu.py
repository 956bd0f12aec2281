"""`make gpu`'s two parts, on a CPU: all but the GPU itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.page import parity_table, speed_table
from benchmarks.gpu.parity import ParityRow, parity
from benchmarks.gpu.plan import FORMS, GpuPlan
from benchmarks.gpu.speed import EAGER, timed
from d2serve.handlers.spec.runtimes import RUNTIMES, runtimes_of
from examples.shapes.generate import generate_split
from examples.shapes.schema import IMAGES_FOLDER
from tests.benchmarks.test_run import NARROW
from tests.conftest import ROOT

PLAN = GpuPlan(
    device="cpu",
    forms=("onnxruntime",),
    models=("mask_rcnn_fpn",),
    images=3,
    batches=(1, 2),
    overrides=NARROW,
    picture_size=(135, 180),
    export_size=(96, 128),
    timed_batches=(1, 2),
    rounds=2,
)


def test_every_runtime_that_has_a_gpu_is_asked() -> None:
    asked = {
        form.export.get("runtime", runtimes_of(form.export.get("format", "torchscript"))[0])
        for form in FORMS.values()
    }
    assert {name for name, facts in RUNTIMES.items() if facts.needs_gpu} <= asked
    assert asked <= {name for name, facts in RUNTIMES.items() if facts.runs_on_gpu}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: `make gpu` runs on it")
def test_without_a_gpu_it_says_so_and_writes_nothing() -> None:
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", "parity"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.returncode == 1
    assert "sees no NVIDIA GPU here" in told.stderr
    assert not list((ROOT / "benchmarks" / "results").glob("gpu_*"))


@pytest.mark.server
@pytest.mark.export
@pytest.mark.long
def test_answers_are_compared_in_batches_and_over_torchserve(tmp_path: Path) -> None:
    annotations = generate_split(tmp_path, "heldout", PLAN.images)
    files = sorted((tmp_path / IMAGES_FOLDER).glob("*.jpg"))
    store = tmp_path / "store"
    store.mkdir()
    done: list[None] = []
    (row,) = parity(PLAN, files, annotations, store, lambda: done.append(None))
    assert row.refused == ""
    assert row.images == 1 + 2 + PLAN.images
    assert row.detections > 30
    assert row.outside == 0
    assert len(done) == 1
    assert "mask_rcnn_fpn, ONNX Runtime" in parity_table([row]).as_markdown()


@pytest.mark.export
def test_batches_are_timed_beside_eager(tmp_path: Path) -> None:
    found = timed(PLAN, tmp_path, lambda: None)
    assert [(each.side, each.batch) for each in found] == [
        (side, batch) for batch in (1, 2) for side in (EAGER, "onnxruntime")
    ]
    assert all(each.ratio.value > 0 and each.instances == 10 for each in found)
    assert "eager detectron2 | 2 |" in speed_table(found).as_markdown()


def test_a_refusal_is_a_row() -> None:
    table = parity_table([ParityRow("retinanet", "tensorrt", "no such operator")])
    assert "retinanet, TensorRT | refused: no such operator" in table.as_markdown()
