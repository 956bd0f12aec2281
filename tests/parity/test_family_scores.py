"""AP, AR, mIoU and PQ of eager detectron2 and of what is served, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog

from d2serve.export.proof.checking import evaluate_archive
from d2serve.export.proof.oracle import Oracle
from d2serve.export.request import Progress
from d2serve.handlers.requests.decoding import decode
from d2serve.server.torchserve.process import TorchServeProcess
from examples.shapes.dataset import dataset_name
from examples.shapes.panoptic_quality import PanopticQualityEvaluator
from tests.conftest import STUFF_MODELS, Exporter, HeldOut, source_of
from tests.parity.conftest import Served

IMAGES = 100
QUIET = Progress(lambda _step, _parts: None, lambda: None)
# By kind of task, the metric that says whether the model is any good, and the least it has.
GOOD = {
    "bbox": ("AP50", 80),
    "segm": ("AP50", 80),
    "box_proposals": ("AR@100", 50),
    "sem_seg": ("mIoU", 80),
}
# A thing or pixel that ties may go either way: TorchScript to three decimals.
APART = 5e-4


@pytest.fixture(scope="module")
def first_images(held_out: HeldOut) -> tuple[Path, Path]:
    """COCO annotations of the first of the held-out images, and the images' folder."""
    content = json.loads(held_out.annotations.read_text())
    content["images"] = content["images"][:IMAGES]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] in ids]
    annotations = held_out.annotations.with_name(f"first_{IMAGES}.json")
    annotations.write_text(json.dumps(content))
    return annotations, held_out.annotations.parent / "images"


CASES: list[tuple[str, str, set[str]]] = [
    ("cascade_mask_rcnn_fpn", "scripting", {"bbox", "segm"}),
    ("fcos", "tracing", {"bbox"}),
    ("rpn_fpn", "scripting", {"box_proposals"}),
    ("mask_rcnn_dconv_fpn", "tracing", {"bbox", "segm"}),
    ("point_rend", "scripting", {"bbox", "segm"}),
    ("vitdet", "tracing", {"bbox", "segm"}),
    ("regnet_mask_rcnn", "scripting", {"bbox", "segm"}),
    ("swin_mask_rcnn", "scripting", {"bbox", "segm"}),
    ("mvitv2_cascade", "tracing", {"bbox", "segm"}),
    ("mask_rcnn_gn_cls_agnostic", "tracing", {"bbox", "segm"}),
    ("semantic_fpn", "tracing", {"sem_seg"}),
    ("deeplab_v3plus", "scripting", {"sem_seg"}),
    ("panoptic_fpn", "scripting", {"bbox", "segm", "sem_seg"}),
]
IN_THE_GATE = ("rpn_fpn", "semantic_fpn", "panoptic_fpn")
"""Each kind of task once; boxes and masks of instances are in test_average_precision.py."""


@pytest.mark.parametrize(
    ("model", "method", "tasks"),
    [
        pytest.param(*case, marks=() if case[0] in IN_THE_GATE else (pytest.mark.long,))
        for case in CASES
    ],
)
def test_the_archives_scores_are_eagers(
    model: str,
    method: str,
    tasks: set[str],
    exported: Exporter,
    first_images: tuple[Path, Path],
    stuff_held_out: HeldOut,
    record_property: Callable[[str, object], None],
) -> None:
    """By detectron2's own evaluators; the stuff splits are registered, as a user's would be."""
    assert len(stuff_held_out.images) >= IMAGES
    coco = None if model in STUFF_MODELS else first_images
    eager, archive = evaluate_archive(exported(model, method), source_of(model), coco, QUIET)
    assert set(eager) == set(archive) == tasks
    for task, metrics in eager.items():
        metric, least = GOOD[task]
        assert metrics[metric] >= least
        record_property(
            f"{model} {task} {metric}", [float(metrics[metric]), float(archive[task][metric])]
        )
        for name, value in metrics.items():
            assert archive[task][name] == pytest.approx(value, abs=APART, nan_ok=True), name


@pytest.mark.server
@pytest.mark.parametrize(
    ("model", "method", "dataset", "least"),
    [
        ("panoptic_fpn", "scripting", dataset_name("stuff_heldout"), 70),
        pytest.param(
            *("panoptic_deeplab", "tracing", "shapes_stuff_heldout_panoptic", 60),
            marks=pytest.mark.long,
        ),
    ],
)
def test_panoptic_quality_is_eagers(
    model: str,
    method: str,
    dataset: str,
    least: float,
    server: TorchServeProcess,
    served: Served,
    stuff_held_out: HeldOut,
    oracle_of: Callable[[str], Oracle],
    record_property: Callable[[str, object], None],
) -> None:
    """The evaluator takes a client's ``to_detectron2()`` for DefaultPredictor's dict."""
    name = served(model, method)
    records = DatasetCatalog.get(dataset)
    assert len(records) == len(stuff_held_out.images) >= IMAGES
    files = [Path(record["file_name"]) for record in records]
    predict = oracle_of(model).predict
    eager = _quality(dataset, records, (predict(decode(file.read_bytes())) for file in files))
    answered = (server.http.predict(name, file).to_detectron2() for file in files)
    got = _quality(dataset, records, answered)
    record_property(f"{model} PQ", [float(eager["PQ"]), float(got["PQ"])])
    assert eager["PQ"] >= least
    assert got == pytest.approx(eager, abs=APART)


def _quality(
    dataset: str, records: list[dict[str, Any]], answers: Iterable[dict[str, Any]]
) -> dict[str, float]:
    evaluator = PanopticQualityEvaluator(dataset)
    for record, answer in zip(records, answers):
        evaluator.process([record], [answer])
    return evaluator.evaluate()["panoptic"]
