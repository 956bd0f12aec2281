"""COCO AP of eager detectron2 and of the archive, by detectron2's own evaluator."""

from __future__ import annotations

import pytest

from d2serve.export.proof.checking import evaluate_archive
from d2serve.export.request import Progress
from tests.conftest import METHODS, MODELS, Exporter, HeldOut, source_of
from tests.ways import tiered

QUIET = Progress(lambda _step, _parts: None, lambda: None)


# All kinds are compared image by image elsewhere; AP takes the methods in turn.
TORCHSCRIPT = [(model, METHODS[(index + 1) % 2], 5e-4) for index, model in enumerate(MODELS)]
# Scores that differ in the sixth digit may change places, and a keypoint that two pixels share may
# lie on the other: either moves AP a little.
OTHERS = [
    ("mask_rcnn_fpn", "openvino", 0.05),
    ("keypoint_rcnn_fpn", "onnxruntime", 0.1),
    ("keypoint_rcnn_fpn", "tensorflow", 0.1),
    ("mask_rcnn_fpn", "caffe2", 0.1),
    ("keypoint_rcnn_fpn", "caffe2", 0.1),
]


@pytest.mark.parametrize(("model", "kind", "apart"), tiered([*TORCHSCRIPT, *OTHERS]))
def test_ap_is_equal(
    model: str, kind: str, apart: float, exported: Exporter, held_out: HeldOut
) -> None:
    """To three decimals for TorchScript, to a tenth of a point for others."""
    eager, served = evaluate_archive(
        exported(model, kind),
        source_of(model),
        (held_out.annotations, held_out.annotations.parent / "images"),
        QUIET,
    )
    assert eager["bbox"]["AP50"] >= 80
    expected_tasks = {"bbox"} | ({"segm"} if model.startswith("mask") else set())
    expected_tasks |= {"keypoints"} if model.startswith("keypoint") else set()
    assert set(eager) == set(served) == expected_tasks
    for task, metrics in eager.items():
        # A few objects make up the AP of a size, which then moves more.
        for metric in metrics if kind in METHODS else ("AP", "AP50", "AP75"):
            value = metrics[metric]
            assert served[task][metric] == pytest.approx(value, abs=apart, nan_ok=True), metric
