"""COCO results, as pycocotools reads and judges them."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from d2serve.client.errors import InvalidInput
from d2serve.client.results.coco_results import CocoIds, CocoResults, coco_results
from d2serve.client.results.prediction import Prediction
from tests.client import handmade

SIZE = (48, 64)
CATEGORIES = [{"id": 17, "name": "square"}, {"id": 3, "name": "Round Thing"}]
"""Neither in the order of their ids nor from 0 on; the model's class 0 is the second."""


def mask_of(x0: int, y0: int, x1: int, y1: int) -> Any:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def keypoints_in(box: tuple[int, int, int, int]) -> list[list[float]]:
    x0, y0, x1, y1 = box
    return [[x0 + 0.5, y0 + 0.5, 0.9], [x1 - 0.5, y0 + 2.5, 0.8], [x0 + 4.5, y1 - 0.5, 0.7]]


def found(number: int, name: str | None, box: tuple[int, int, int, int]) -> dict[str, Any]:
    fields: dict[str, Any] = {} if name is None else {"category_name": name}
    segmentation = handmade.rle(mask_of(*box))
    return handmade.instance(
        number, *box, segmentation=segmentation, keypoints=keypoints_in(box), score=0.75, **fields
    )


FOUND = [found(0, "round_thing", (8, 4, 40, 30)), found(1, "square", (2, 2, 10, 20))]


def annotation(number: int, category: int, box: tuple[int, int, int, int]) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    points = [int(v) for x, y, _ in keypoints_in(box) for v in (x - 0.5, y - 0.5, 2)]
    encoded = coco_mask.encode(np.asfortranarray(mask_of(*box).astype(np.uint8)))
    return {
        "id": number,
        "image_id": 71,
        "category_id": category,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
        "segmentation": {"size": list(SIZE), "counts": encoded["counts"].decode()},
        "keypoints": points,
        "num_keypoints": 3,
    }


@pytest.fixture
def truth_file(tmp_path: Path) -> Path:
    content = {
        "info": {},
        "images": [
            {"id": 71, "file_name": "val/a.jpg", "height": SIZE[0], "width": SIZE[1]},
            {"id": 72, "file_name": "train/a.jpg", "height": SIZE[0], "width": SIZE[1]},
            {"id": 73, "file_name": "b.jpg", "height": SIZE[0], "width": SIZE[1]},
        ],
        "categories": CATEGORIES,
        "annotations": [annotation(1, 3, (8, 4, 40, 30)), annotation(2, 17, (2, 2, 10, 20))],
    }
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(content))
    return file


def prediction(*instances: dict[str, Any]) -> Prediction:
    return handmade.prediction(*SIZE, instances=list(instances))


def judged(truth_file: Path, results: list[dict[str, Any]], kind: str) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file))
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.params.imgIds = [71]
        if kind == "keypoints":
            evaluation.params.kpt_oks_sigmas = np.full(3, 0.05)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


@pytest.mark.parametrize("kind", ["bbox", "segm", "keypoints"])
def test_pycocotools_judges_a_right_answer_as_right(truth_file: Path, kind: str) -> None:
    ids = CocoIds.read(truth_file)
    results = coco_results(prediction(*FOUND), ids.image_id("/data/val/a.jpg"), ids)
    assert [each["category_id"] for each in results] == [3, 17]
    assert json.loads(json.dumps(results)) == results
    assert judged(truth_file, results, kind) == pytest.approx(1)
    moved = [{**each, "category_id": 20 - each["category_id"]} for each in results]
    assert judged(truth_file, moved, kind) == pytest.approx(0)


def test_polygons_are_judged_as_the_masks_they_are(truth_file: Path) -> None:
    box = (8, 4, 40, 30)
    outline = [[8, 4, 40, 4, 40, 30, 8, 30]]
    ids = CocoIds.read(truth_file)
    outlined = {**found(0, "round_thing", box), "segmentation": outline}
    (entry,) = coco_results(prediction(outlined), 71, ids)
    (reference,) = coco_results(prediction(found(0, "round_thing", box)), 71, ids)
    assert entry == reference
    assert isinstance(entry["segmentation"]["counts"], str)


@pytest.mark.long  # imports detectron2
def test_an_entry_is_that_of_detectron2s_evaluator(truth_file: Path) -> None:
    structures = pytest.importorskip("detectron2.structures")
    evaluation = pytest.importorskip("detectron2.evaluation.coco_evaluation")
    torch = pytest.importorskip("torch")
    boxes = [(3.1, 4.7, 33.33, 41.9), (0.123456, 0.2, 17.7, 9.1)]
    instances = structures.Instances(SIZE)
    instances.pred_boxes = structures.Boxes(torch.tensor(boxes))
    instances.scores = torch.tensor([0.9, 0.25])
    instances.pred_classes = torch.tensor([0, 1])
    instances.pred_masks = torch.tensor(np.stack([mask_of(3, 4, 33, 41), mask_of(0, 0, 17, 9)]))
    instances.pred_keypoints = torch.tensor([keypoints_in((3, 4, 33, 41))] * 2)
    reference = evaluation.instances_to_coco_json(instances, 71)
    own = [
        handmade.instance(
            number,
            *map(float, np.array(box, np.float32)),
            score=score,
            segmentation=handmade.rle(mask),
            keypoints=keypoints_in((3, 4, 33, 41)),
        )
        for number, (box, score, mask) in enumerate(
            zip(boxes, (0.9, 0.25), (mask_of(3, 4, 33, 41), mask_of(0, 0, 17, 9)))
        )
    ]
    entries = coco_results(prediction(*own), 71, CocoIds.read(truth_file))
    for entry, theirs in zip(entries, reference):
        dataset_id = {0: 3, 1: 17}[theirs["category_id"]]
        score = pytest.approx(theirs["score"])
        assert entry == {**theirs, "category_id": dataset_id, "score": score}
    assert len(entries) == len(reference) == 2


def test_without_names_classes_are_taken_in_order(truth_file: Path) -> None:
    ids = CocoIds.read(truth_file)
    unnamed = [found(1, None, (2, 2, 10, 20)), found(0, None, (8, 4, 40, 30))]
    results = coco_results(prediction(*unnamed), 71, ids)
    assert [each["category_id"] for each in results] == [17, 3]
    with pytest.raises(
        InvalidInput, match=r"found class 2, where .* has 2 categories.*class-names"
    ):
        coco_results(prediction(found(2, None, (2, 2, 10, 20))), 71, ids)


def test_a_name_of_two_categories_is_refused_unless_the_place_tells(tmp_path: Path) -> None:
    file = tmp_path / "twice.json"
    categories = [{"id": number, "name": "dog"} for number in (5, 6)]
    file.write_text(json.dumps({"images": [], "categories": categories}))
    ids = CocoIds.read(file)
    (entry,) = coco_results(prediction(found(1, "dog", (2, 2, 10, 20))), 71, ids)
    assert entry["category_id"] == 6
    with pytest.raises(InvalidInput, match=r"2 categories named dog: .* 5, 6"):
        coco_results(prediction(found(2, "dog", (2, 2, 10, 20))), 71, ids)


def test_images_are_known_by_the_end_of_their_paths(truth_file: Path) -> None:
    ids = CocoIds.read(truth_file)
    known = {"/d/val/a.jpg": 71, "train/a.jpg": 72, "shard.tar::x/b.jpg": 73, r"C:\d\b.jpg": 73}
    assert {name: ids.image_id(name) for name in known} == known
    for name, told in {
        "a.jpg": "has 2 images that a.jpg may be",
        "test/a.jpg": "no image test/a.jpg; it has val/a.jpg, train/a.jpg",
        "c.jpg": "no image c.jpg; it has val/a.jpg, train/a.jpg, b.jpg",
    }.items():
        with pytest.raises(InvalidInput, match=told):
            ids.image_id(name)


def test_what_coco_results_cannot_hold_is_refused(truth_file: Path) -> None:
    ids = CocoIds.read(truth_file)
    with pytest.raises(InvalidInput, match=r"XYWHA_ABS.*upright.*RotatedCOCOEvaluator"):
        coco_results(prediction(handmade.instance(0, 9, 9, 4, 4, 30)), 71, ids)
    labels = np.zeros(SIZE, int)
    with pytest.raises(InvalidInput, match="hold instances, and the model m predicts none"):
        coco_results(handmade.prediction(*SIZE, sem_seg=handmade.sem_seg(labels)), 71, ids)


def test_a_file_is_written_image_by_image(truth_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "out" / "results.json"
    stranger = found(2, "[dog]", (2, 2, 10, 20))
    with CocoResults.writing(file, CocoIds.read(truth_file)) as results:
        results.add("val/a.jpg", prediction(*FOUND, stranger))
        with pytest.raises(InvalidInput, match=r"no image c\.jpg"):
            results.add("c.jpg", prediction(*FOUND))
        results.add("b.jpg", prediction(stranger, FOUND[1]))
        assert not file.exists()
    written = json.loads(file.read_bytes())
    assert [(each["image_id"], each["category_id"]) for each in written] == [
        (71, 3),
        (71, 17),
        (73, 17),
    ]
    assert results.entries == 3
    assert "2 instances are not in the COCO results" in str(results.left_out())
    assert "[dog] (2)" in str(results.left_out())
    assert judged(truth_file, written, "segm") == pytest.approx(1)


def test_a_failure_leaves_no_file(truth_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    with (
        pytest.raises(RuntimeError, match="told"),
        CocoResults.writing(file, CocoIds.read(truth_file)),
    ):
        raise RuntimeError("told")
    assert [each.name for each in tmp_path.iterdir()] == ["annotations.json"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[]", "has no COCO annotations .*expected JSON with images"),
        (b"{", "has no COCO annotations"),
        (b'{"images": [{"id": 1}], "categories": []}', "KeyError: 'file_name'"),
        (None, "cannot be read .*No such file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "annotations.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInput, match=told):
        CocoIds.read(file)
