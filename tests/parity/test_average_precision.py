"""COCO AP of eager detectron2 and of the archive, by detectron2's own evaluator."""

from __future__ import annotations

import pytest

from d2serve.export.checking import evaluate_archive
from d2serve.export.request import Progress
from tests.conftest import KINDS, MODELS, Exporter, HeldOut, config_of

QUIET = Progress(lambda _step, _parts: None, lambda: None)


@pytest.mark.parametrize("model", MODELS)
def test_ap_is_equal_to_three_decimals(model: str, exported: Exporter, held_out: HeldOut) -> None:
    # All kinds are compared image by image elsewhere; AP takes them in turn.
    kind = KINDS[MODELS.index(model) % len(KINDS)]
    eager, served = evaluate_archive(
        exported(model, kind),
        str(config_of(model)),
        (),
        ("examples.shapes.dataset",),
        (held_out.annotations, held_out.annotations.parent / "images"),
        QUIET,
    )
    assert eager["bbox"]["AP50"] >= 80
    expected_tasks = {"bbox"} | ({"segm"} if model.startswith("mask") else set())
    expected_tasks |= {"keypoints"} if model.startswith("keypoint") else set()
    assert set(eager) == set(served) == expected_tasks
    for task, metrics in eager.items():
        for metric, value in metrics.items():
            assert served[task][metric] == pytest.approx(value, abs=5e-4, nan_ok=True), metric
