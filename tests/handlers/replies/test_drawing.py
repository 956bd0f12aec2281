"""Every family's answer can be drawn, of any size, in both formats, where things are."""

from __future__ import annotations

import io
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
    (rle,) = coco_rles(mask[None])
    found = instances(
        200,
        300,
        [[100, 50, 200, 150]],
        masks=(Rle(size=rle["size"], counts=rle["counts"]),),
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
