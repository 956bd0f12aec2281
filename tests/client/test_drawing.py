"""Pictures: something is drawn where it belongs, in colours that tell categories apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from d2serve.client.drawing import draw
from d2serve.client.errors import DrawingError
from d2serve.client.results.prediction import Prediction
from d2serve.handlers.replies.drawing import PROPOSALS_DRAWN
from tests.client import handmade

HEIGHT, WIDTH = 120, 200


def instance(category: int, x: int, **fields: Any) -> dict[str, Any]:
    """A 40 x 60 box whose upper left corner is at (x, 40)."""
    return {
        "bbox": [x, 40, x + 40, 100],
        "bbox_mode": "XYXY_ABS",
        "score": 0.9,
        "category_id": category,
        **fields,
    }


def prediction(*instances: dict[str, Any]) -> Prediction:
    return prediction_of(instances=list(instances))


def prediction_of(**fields: Any) -> Prediction:
    return handmade.prediction(HEIGHT, WIDTH, **fields)


def mask_of(x: int) -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[40:100, x : x + 40] = 1
    return {"size": [HEIGHT, WIDTH], "counts": coco_mask.encode(mask)["counts"].decode()}


GREY = Image.new("RGB", (WIDTH, HEIGHT), (128, 128, 128))


def changed(picture: Image.Image) -> NDArray[np.bool_]:
    return np.asarray(np.any(np.asarray(picture) != np.asarray(GREY), axis=2))


def test_a_box_is_drawn_at_its_place_and_the_input_is_left_alone() -> None:
    before = np.asarray(GREY).copy()
    picture = draw(GREY, prediction(instance(0, 20)))
    touched = changed(picture)
    assert touched[70, 18:23].any(), "left edge"
    assert not touched[75, 30:50].any(), "the inside stays visible"
    assert not touched[:, 120:].any(), "far from the box"
    np.testing.assert_array_equal(np.asarray(GREY), before)


def test_masks_are_tinted_and_categories_differ_in_colour() -> None:
    both = prediction(
        instance(0, 20, segmentation=mask_of(20)), instance(1, 120, segmentation=mask_of(120))
    )
    picture = draw(GREY, both)
    first, second = picture.getpixel((40, 90)), picture.getpixel((140, 90))
    assert first != second
    assert (128, 128, 128) not in (first, second)
    assert picture.getpixel((90, 90)) == (128, 128, 128)


def test_keypoints_are_white_dots() -> None:
    picture = draw(GREY, prediction(instance(0, 20, keypoints=[[40, 75, 0.9]])))
    assert picture.getpixel((40, 75)) == (255, 255, 255)


def test_a_rotated_box_is_drawn_along_its_sides() -> None:
    touched = changed(draw(GREY, prediction(handmade.instance(0, 100, 60, 80, 20, 90))))
    assert touched[60, 88:93].any(), "what was its bottom before the quarter turn"
    assert not touched[60, 58:80].any(), "where its left end would be without the turn"


def test_each_class_is_tinted_and_named() -> None:
    labels = np.zeros((HEIGHT, WIDTH), int)
    labels[:, 100:] = 1
    named = prediction_of(sem_seg=handmade.sem_seg(labels))
    picture = draw(GREY, named)
    first, second = picture.getpixel((5, 5)), picture.getpixel((195, 5))
    assert first != second
    assert changed(picture).all(), "each pixel is of a class"
    assert len({picture.getpixel((x, 60)) for x in range(100)}) > 1, "a name is written inside"


def test_of_a_panoptic_answer_the_merged_masks_are_drawn_and_losers_are_not() -> None:
    ids = np.zeros((HEIGHT, WIDTH), int)
    ids[40:100, 20:60], ids[110:, :] = 1, 2
    lost = instance(1, 120, score=0.8, segmentation=mask_of(120))
    instances = [instance(0, 20, segmentation=mask_of(20)), lost]
    segments = [handmade.thing(ids, 1), handmade.stuff(ids, 2, 4, category_name="grass")]
    merged = handmade.panoptic_seg(ids, *segments)
    answer = prediction_of(instances=instances, sem_seg=handmade.sem_seg(ids), panoptic_seg=merged)
    touched = changed(draw(GREY, answer))
    assert touched[45:95, 25:55].all(), "the thing"
    assert touched[112:, :].all(), "the stuff"
    assert not touched[:15, :].any(), "what belongs to no segment"
    assert not touched[40:100, 120:].any(), "the instance that is in no segment"
    without_things = changed(draw(GREY, answer, min_score=0.95))
    assert without_things[112:, :].all()
    assert not without_things[45:95, 25:55].any()


def test_the_best_proposals_are_drawn_thin_and_the_others_not() -> None:
    best = [handmade.proposal(5, 10, 10, 60, 60)] * PROPOSALS_DRAWN
    answer = prediction_of(proposals=[handmade.proposal(1, 100, 10, 150, 60), *best])
    touched = changed(draw(GREY, answer))
    assert touched[10, 30]
    assert not touched[30, 20:50].any()
    assert not touched[:, 90:].any(), "one more than are drawn"


def test_low_scores_can_be_left_out_and_nothing_is_nothing() -> None:
    low = prediction(instance(0, 20, score=0.1))
    assert changed(draw(GREY, low)).any()
    assert not changed(draw(GREY, low, min_score=0.5)).any()
    assert not changed(draw(GREY, prediction())).any()


def test_an_image_is_read_upright_from_its_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees"
    Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "sideways.jpg", exif=exif)
    assert draw(tmp_path / "sideways.jpg", prediction()).size == (WIDTH, HEIGHT)


def test_another_image_than_the_one_sent_is_refused() -> None:
    with pytest.raises(DrawingError, match="10 x 10"):
        draw(Image.new("RGB", (10, 10)), prediction())


def test_predicting_over_http_loads_no_torch_no_grpc_and_no_drawing() -> None:
    heavy = {"torch", "grpc", "grpc_tools", "cv2", "detectron2", "ts", "PIL.ImageDraw"}
    script = (
        "import sys, d2serve.client\n"
        "d2serve.client.D2ServeClient\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert told.stdout.strip() == "[]"
