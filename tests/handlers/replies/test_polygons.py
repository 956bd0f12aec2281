"""Filling the polygons gives the mask back, holes filled; pycocotools does the filling."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from scipy import ndimage

from d2serve.handlers.outputs.rle import Rle, decode_mask
from d2serve.handlers.replies.polygons import contours, to_polygons
from tests.handlers.samples import cases, coco_rles

Mask = NDArray[np.bool_]
masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 25), st.integers(1, 25)))


def rle_of(mask: Mask) -> Rle:
    (rle,) = coco_rles(mask[None])
    return Rle(size=rle["size"], counts=rle["counts"])


def filled(polygons: list[list[int]], height: int, width: int) -> Mask:
    if not polygons:
        return np.zeros((height, width), np.bool_)
    rles = coco_mask.frPyObjects(polygons, height, width)
    return np.asarray(coco_mask.decode(coco_mask.merge(rles)), np.bool_)


def without_holes(mask: Mask) -> Mask:
    """What is outside is reached across corners as well."""
    return np.asarray(ndimage.binary_fill_holes(mask, np.ones((3, 3))))


def disc(height: int, width: int, cx: float, cy: float, rx: float, ry: float) -> Mask:
    y, x = np.mgrid[:height, :width]
    return np.asarray(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1)


@cases(300)
@given(masks)
def test_any_mask_comes_back_without_its_holes(mask: Mask) -> None:
    polygons = to_polygons(rle_of(mask))
    np.testing.assert_array_equal(filled(polygons, *mask.shape), without_holes(mask))
    assert len(polygons) == ndimage.label(mask)[1]


@cases(100)
@given(st.data())
def test_smooth_masks_at_any_place(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(40, 200)), data.draw(st.integers(40, 200))
    mask = np.zeros((height, width), np.bool_)
    for _ in range(data.draw(st.integers(1, 3))):
        cx, cy = data.draw(st.floats(0, width)), data.draw(st.floats(0, height))
        rx, ry = data.draw(st.floats(4, 60)), data.draw(st.floats(4, 60))
        mask |= disc(height, width, cx, cy, rx, ry)
    back = filled(to_polygons(rle_of(mask)), height, width)
    np.testing.assert_array_equal(back, without_holes(mask))


@pytest.mark.parametrize(
    ("rows", "polygons"),
    [
        (["."], []),
        (["#"], [[0, 0, 1, 0, 1, 1, 0, 1]]),
        ([".##.", ".##."], [[1, 0, 3, 0, 3, 2, 1, 2]]),
        (["#.", ".#"], [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]]),
        ([".#", "#."], [[1, 0, 2, 0, 2, 1, 1, 1], [0, 1, 1, 1, 1, 2, 0, 2]]),
        (["##", "#."], [[0, 0, 2, 0, 2, 1, 1, 1, 1, 2, 0, 2]]),
        (["###", "#.#", "###"], [[0, 0, 3, 0, 3, 3, 0, 3]]),
    ],
)
def test_known_masks(rows: list[str], polygons: list[list[int]]) -> None:
    mask = np.array([[cell == "#" for cell in row] for row in rows])
    assert contours(mask) == polygons
    assert to_polygons(rle_of(mask)) == polygons


@cases(200)
@given(masks)
def test_decoding(mask: Mask) -> None:
    part, left = decode_mask(rle_of(mask))
    whole = np.zeros_like(mask)
    whole[:, left : left + part.shape[1]] = part
    np.testing.assert_array_equal(whole, mask)


def test_an_instance_of_a_photograph_takes_milliseconds() -> None:
    canvas = Image.new("1", (4000, 3000))
    draw = ImageDraw.Draw(canvas)
    draw.ellipse((1000, 900, 1900, 1700), fill=1)
    rle = rle_of(np.asarray(canvas, np.bool_))
    start = time.perf_counter()
    (polygon,) = to_polygons(rle)
    assert time.perf_counter() - start < 1
    assert len(polygon) < 8000
