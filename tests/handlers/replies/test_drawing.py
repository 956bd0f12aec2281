"""Every family's answer can be drawn, of any size, in both formats, where things are."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from d2serve.handlers.outputs.records import Detections, Outputs, PanopticSeg, Proposals, Segment
from d2serve.handlers.outputs.rle import Rle
from d2serve.handlers.replies.drawing import CONTENT_TYPES, draw
from d2serve.handlers.replies.pen import colour_of
from tests.handlers.samples import cases, coco_rles, spec_with


def drawn(
    outputs: Outputs, pixels: NDArray[np.uint8], file_format: str = "png", **spec: Any
) -> NDArray[np.uint8]:
    data = draw(pixels, outputs, spec_with(**spec), file_format)
    with Image.open(io.BytesIO(data)) as image:
        assert Image.MIME[str(image.format)] == CONTENT_TYPES[file_format]
        return np.asarray(image.convert("RGB"))


def black(height: int, width: int) -> NDArray[np.uint8]:
    return np.zeros((height, width, 3), np.uint8)


def rles(masks: NDArray[np.bool_]) -> tuple[Rle, ...]:
    return tuple(Rle(size=each["size"], counts=each["counts"]) for each in coco_rles(masks))


def instances(height: int, width: int, boxes: list[list[float]], **fields: Any) -> Detections:
    count = len(boxes)
    return Detections(
        height,
        width,
        np.array(boxes, np.float32).reshape(count, -1 if count else fields.get("numbers", 4)),
        np.full(count, 0.5, np.float32),
        np.arange(count),
        fields.get("masks"),
        fields.get("keypoints"),
    )


@pytest.mark.parametrize("file_format", ["png", "jpeg"])
def test_instances(file_format: str) -> None:
    mask = np.zeros((200, 300), np.bool_)
    mask[60:100, 120:180] = True
    found = instances(
        200,
        300,
        [[100, 50, 200, 150]],
        masks=rles(mask[None]),
        keypoints=np.array([[[150, 140, 1]]], np.float32),
    )
    pixels = black(200, 300)
    picture = drawn(Outputs(200, 300, found, None, None, None), pixels, file_format)
    lit = picture.max(axis=2) > 40
    assert lit[100, 100]
    assert lit[50:150, 199:201].any(axis=1).all()  # the box
    assert lit[62:98, 122:178].all()  # the mask
    assert lit[140, 150]  # the keypoint
    assert lit[25:50, 100:140].any()  # the label
    assert not lit[160:, :].any()
    assert not lit[:, 210:].any()
    assert not pixels.any()


def test_a_rotated_box() -> None:
    found = instances(200, 200, [[100, 100, 100, 2, 90]])  # 90 degrees: it stands
    picture = drawn(
        Outputs(200, 200, found, None, None, None), black(200, 200), box_mode="XYWHA_ABS"
    )
    assert picture[60:140, 98:103].any(axis=(1, 2)).all()
    assert not picture[:, 160:].any()


def test_proposals_and_maps() -> None:
    proposals = Proposals(np.full((40, 4), 5, np.float32), np.zeros(40, np.float32))
    labels = np.zeros((20, 30), np.int32)
    labels[:, 15:] = 3
    outputs = Outputs(20, 30, None, labels, None, proposals)
    picture = drawn(outputs, black(20, 30))
    assert picture[10, 10].tolist() != picture[10, 20].tolist()
    segments = (Segment(3, 0, False, 300, None, None),)
    outputs = Outputs(20, 30, None, labels, PanopticSeg(labels, segments), None)
    picture = drawn(outputs, black(20, 30))
    assert not picture[:, :15].any()
    assert picture[:, 15:].any(axis=2).all()


def test_a_mask_has_an_outline_of_its_full_colour() -> None:
    mask = np.zeros((100, 200), np.bool_)
    mask[20:80, 40:140] = True
    found = instances(100, 200, [[40, 20, 140, 80]], masks=rles(mask[None]))
    picture = drawn(Outputs(100, 200, found, None, None, None), black(100, 200))
    full, tinted = picture[50, 40].tolist(), picture[50, 90].tolist()
    assert 2 * max(tinted) < max(full)
    assert min(np.abs(picture[79, 60].astype(int) - full)) == 0


def test_labels_of_one_place_stand_beside_each_other() -> None:
    found = instances(200, 300, [[100, 100, 160, 150]] * 3)
    picture = drawn(Outputs(200, 300, found, None, None, None), black(200, 300))
    for category in range(3):
        label = (picture == colour_of(category)).all(axis=2)
        assert label.sum() > 150, "its label is not hidden"


def test_names_of_maps_and_what_the_merge_has_left() -> None:
    """The second instance lost its upper half to the first, the third is in no segment."""
    height, width = 120, 300
    labels = np.zeros((height, width), np.int32)
    labels[:60, :100], labels[60:, :100], labels[:, 200:] = 1, 2, 7
    masks = np.zeros((3, height, width), np.bool_)
    masks[0, :60, :100], masks[1, :, :100], masks[2, :, 110:190] = True, True, True
    found = instances(
        height,
        width,
        [[0, 0, 100, 60], [0, 0, 100, 120], [110, 0, 190, 120]],
        masks=rles(masks),
    )
    segments = (
        Segment(1, 0, True, 6000, 0.5, 0),
        Segment(2, 1, True, 6000, 0.5, 1),
        Segment(7, 4, False, 12000, None, None),
    )
    outputs = Outputs(height, width, found, labels, PanopticSeg(labels, segments), None)
    picture = drawn(outputs, black(height, width), stuff_class_names=("a", "b", "c", "d", "sky"))
    assert not picture[:, 105:195].any()
    upper, lower = picture[30, 50].tolist(), picture[100, 50].tolist()
    assert sorted(upper) != sorted(lower), "each has the tint of one instance"
    stuff = picture[:, 205:].reshape(-1, 3)
    assert (stuff == colour_of(4, stuff=True)).all(axis=1).sum() > 50, "its name"
    without_masks = replace(found, masks=None)
    again = drawn(replace(outputs, instances=without_masks), black(height, width))
    np.testing.assert_array_equal(again[:, :195], picture[:, :195])


def test_memory_follows_from_the_size() -> None:
    """Of a mask as large as the image; a copy as float32 alone would be 12 bytes a pixel."""
    height, width = 1500, 2000
    masks = rles(np.ones((1, height, width), np.bool_))
    found = instances(height, width, [[0, 0, width, height]], masks=masks)
    labels = np.ones((height, width), np.int32)
    pixels, outputs = black(height, width), Outputs(height, width, found, labels, None, None)
    tracemalloc.start()
    try:
        draw(pixels, outputs, spec_with(), "jpeg")
        _, peak = tracemalloc.get_traced_memory()  # of numpy; Pillow has 4 bytes a pixel of its own
    finally:
        tracemalloc.stop()
    assert peak < 9 * height * width


@cases(100)
@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.lists(st.floats(0, 50, width=32), min_size=4, max_size=4), max_size=4),
    st.text(max_size=30),
    st.booleans(),
)
def test_whatever_is_drawn(
    height: int, width: int, boxes: list[list[float]], name: str, rotated: bool
) -> None:
    boxes = [[*box, 33.0] if rotated else box for box in boxes]
    keypoints = np.full((len(boxes), 2, 3), 1e30, np.float32)
    found = instances(height, width, boxes, keypoints=keypoints, numbers=5 if rotated else 4)
    picture = drawn(
        Outputs(height, width, found, None, None, None),
        black(height, width),
        "jpeg",
        class_names=(name,) * 4,
        box_mode="XYWHA_ABS" if rotated else "XYXY_ABS",
    )
    assert picture.shape == (height, width, 3)
