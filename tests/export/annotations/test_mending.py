"""Annotations lack what COCO's have: it is filled in and said, or refused before any pass."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from d2serve.export.annotations.mending import Mended, mend
from d2serve.export.errors import EvaluationError
from tests.export.annotations.handmade import INSTANCES, SIZE, WITH_KEYPOINTS, coco, expecting

NAMES = ("a", "b")
RECTANGLE = [5.0, 5.0, 20.0, 10.0]


def mended(content: dict[str, Any], **expected: Any) -> Mended:
    names = expected.pop("names", NAMES)
    return mend(content, {"7": SIZE}, expecting(*names, **expected), "a.json")


def with_first(**changed: Any) -> dict[str, Any]:
    content = coco(*NAMES)
    content["annotations"][0].update(changed)
    return content


def without(*keys: str, first_only: bool = False) -> dict[str, Any]:
    content = coco(*NAMES)
    for annotation in content["annotations"][: 1 if first_only else None]:
        for key in keys:
            del annotation[key]
    return content


def test_what_is_whole_stays_as_it_is() -> None:
    made = mended(coco(*NAMES))
    assert (made.tasks, made.lacking, made.notes) == (("bbox", "segm"), (), ())
    for got, given in zip(made.content["annotations"], coco(*NAMES)["annotations"]):
        assert {**got, "image_id": 7} == given


@pytest.mark.parametrize("keys", [("iscrowd", "area"), ("bbox",), ("id",), ("bbox", "area")])
def test_what_is_missing_is_as_coco_has_it(keys: tuple[str, ...]) -> None:
    made = mended(without(*keys))
    for got, given in zip(made.content["annotations"], coco(*NAMES)["annotations"]):
        assert {**got, "image_id": 7} == given
    assert keys == ("id",) or f"2 annotations of a.json have no {keys[-1]}" in " ".join(made.notes)


def test_a_box_alone_has_the_area_of_the_box() -> None:
    made = mended(without("segmentation", "area"), outputs=INSTANCES)
    assert [each["area"] for each in made.content["annotations"]] == [200.0, 200.0]


@pytest.mark.parametrize(
    "bbox", [None, [], [1, 2, 3], [1, 2, 3, 4, 30], "1,2,3,4", [1, 2, None, 4]]
)
def test_neither_box_nor_segmentation_is_refused_by_its_place(bbox: Any) -> None:
    content = with_first(bbox=bbox, segmentation=[])
    with pytest.raises(EvaluationError, match=r"^annotations\[0\] of a\.json has the bbox"):
        mended(content)


OTHER_RUNS: list[Any] = ["x", "", "o", [2401], [-1, 2401], {}]
UNREADABLE: list[Any] = [
    *(None, [], [[]], [[1, 2, 3, 4]], "polygon", 3, [[1e30] * 6], [["a"] * 6]),
    {"size": [9, 9], "counts": "x"},
    *({"size": [*SIZE], "counts": each} for each in OTHER_RUNS),
]


@pytest.mark.parametrize("segmentation", UNREADABLE)
def test_a_segmentation_that_cannot_be_read_counts_neither_way(segmentation: Any) -> None:
    made = mended(with_first(segmentation=segmentation))
    assert [each["iscrowd"] for each in made.content["annotations"]] == [1, 0]
    assert "no segmentation that can be read" in made.notes[0]


def test_a_file_of_boxes_measures_boxes() -> None:
    made = mended(without("segmentation"))
    assert (made.tasks, made.lacking) == (("bbox",), ("segm",))
    assert "masks are not measured" in made.notes[0]


@pytest.mark.parametrize("counts", ["compressed", "list"])
def test_masks_as_run_lengths(counts: str) -> None:
    rle: Any = coco_mask.frPyObjects(coco(*NAMES)["annotations"][0]["segmentation"], *SIZE)[0]
    rle = {"size": list(SIZE), "counts": rle["counts"].decode()}
    if counts == "list":
        rle["counts"] = [205, 10] + [30, 10] * 19 + [SIZE[0] * SIZE[1] - 205 - 10 - 40 * 19]
    content = with_first(segmentation=rle)
    for key in ("area", "bbox"):
        del content["annotations"][0][key]
    first = mended(content).content["annotations"][0]
    assert (first["bbox"], first["area"], first["iscrowd"]) == (RECTANGLE, 200.0, 0)


@pytest.mark.parametrize("kind", [str, float])
def test_ids_are_ids_as_texts_and_as_floats(kind: type) -> None:
    content = coco(*NAMES)
    for annotation in content["annotations"]:
        for key in ("image_id", "category_id"):
            annotation[key] = kind(annotation[key])
    assert {each["image_id"] for each in mended(content).content["annotations"]} == {1}


def test_annotations_of_images_that_are_not_judged_are_left_out() -> None:
    made = mended(with_first(image_id=8))
    assert len(made.content["annotations"]) == 1
    assert "images that are not listed" in " ".join(made.notes)


def test_an_id_of_no_category_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"category_id 0, .* \(ids 1, 2\).*from 0 and"):
        mended(with_first(category_id=0))


def test_nothing_to_judge_by_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"no annotation of the model's classes"):
        mended(coco(*NAMES, annotations=[]))


def points(number: int) -> list[float]:
    return [3.0, 4.0, 2.0] * number


@pytest.mark.parametrize(
    ("number", "sigmas", "message"),
    [
        (
            4,
            (),
            r"no OKS sigmas, the model 4 keypoints.*TEST.KEYPOINT_OKS_SIGMAS \"\[0.05, 0.05, 0",
        ),
        (4, (0.1,) * 17, r"17 OKS sigmas, the model 4"),
        (17, (0.1,), r"1 OKS sigmas, the model 17"),
    ],
)
def test_keypoints_need_a_sigma_each(number: int, sigmas: tuple[float, ...], message: str) -> None:
    content = with_first(keypoints=points(number))
    options: dict[str, Any] = {"outputs": WITH_KEYPOINTS, "num_keypoints": number}
    with pytest.raises(EvaluationError, match=message):
        mended(content, sigmas=sigmas, **options)
    made = mended(content, sigmas=(0.1,) * number, **options)
    assert made.tasks == ("bbox", "keypoints")
    # The second instance has none, which COCO writes as zeros.
    assert [each["num_keypoints"] for each in made.content["annotations"]] == [number, 0]


def test_another_number_of_keypoints_is_refused() -> None:
    content = with_first(keypoints=points(21))
    with pytest.raises(EvaluationError, match=r"keypoints of 63 numbers, expected 51"):
        mended(content, outputs=WITH_KEYPOINTS, num_keypoints=17)


def test_pycocotools_judges_what_was_mended(tmp_path: Path) -> None:
    content = with_first(keypoints=points(17))
    for annotation in content["annotations"]:
        for key in ("area", "iscrowd", "id"):
            annotation.pop(key)
    made = mended(content, outputs=(*WITH_KEYPOINTS, "pred_masks"), num_keypoints=17)
    file = tmp_path / "a.json"
    file.write_text(json.dumps(made.content))
    found = [
        {**each, "keypoints": points(17), "score": 0.9} for each in made.content["annotations"]
    ]
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        for task in made.tasks:
            judged = COCOeval(truth, truth.loadRes([dict(each) for each in found]), task)
            judged.evaluate()
            judged.accumulate()
            judged.summarize()
            assert judged.stats[0] == pytest.approx(1.0)
