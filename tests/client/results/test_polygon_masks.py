"""Masks that come as COCO's polygons are as good as those that come as run lengths."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from d2serve.client.drawing import draw
from d2serve.client.errors import MalformedReply
from d2serve.client.results.instances import Instance
from d2serve.client.results.polygon_masks import PolygonMask
from d2serve.handlers.replies.polygons import contours
from tests.client import handmade
from tests.handlers.samples import cases

HEIGHT, WIDTH = 20, 30
SQUARE = [3, 2, 13, 2, 13, 12, 3, 12]

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=25))
points = st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT))
polygons = st.lists(points, min_size=3, max_size=9).map(
    lambda corners: [number for corner in corners for number in corner]
)


def instance_with(segmentation: Any, height: int = HEIGHT, width: int = WIDTH) -> Instance:
    found = handmade.instance(0, 0, 0, 1, 1, segmentation=segmentation)
    (read,) = handmade.prediction(height, width, instances=[found]).instances
    return read


@cases(100)
@given(masks)
def test_what_the_handler_sends_is_the_mask_but_for_its_holes(mask: NDArray[np.bool_]) -> None:
    sent = json.loads(json.dumps(contours(mask)))
    read = instance_with(sent, *mask.shape)
    assert read.segmentation is not None
    assert read.polygons == tuple(tuple(each) for each in sent)
    filled = read.mask()
    assert filled.dtype == np.bool_
    assert filled.shape == mask.shape
    np.testing.assert_array_equal(filled, ndimage.binary_fill_holes(mask, np.ones((3, 3))))
    assert read.segmentation.area() == filled.sum()


@cases(100)
@given(st.lists(polygons, min_size=1, max_size=4))
def test_any_polygons_are_filled_as_coco_fills_them(wanted: list[list[float]]) -> None:
    rles = coco_mask.frPyObjects(wanted, HEIGHT, WIDTH)
    expected = np.bitwise_or.reduce(coco_mask.decode(rles), axis=2).astype(np.bool_)
    read = instance_with(wanted)
    np.testing.assert_array_equal(read.mask(), expected)
    assert isinstance(read.segmentation, PolygonMask)
    assert read.segmentation.area() == expected.sum()


def test_holes_are_filled_and_pieces_are_one_mask() -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[2:8, 2:8] = mask[10:13, 20:25] = True
    filled = mask.copy()
    mask[4:6, 4:6] = False
    read = instance_with(contours(mask))
    assert len(read.polygons or ()) == 2
    np.testing.assert_array_equal(read.mask(), filled)


def test_a_mask_without_a_pixel() -> None:
    read = instance_with([])
    assert read.polygons == ()
    assert not read.mask().any()
    assert read.segmentation is not None
    assert read.segmentation.area() == 0


@pytest.mark.parametrize(
    ("segmentation", "told"),
    [
        ([[0, 0, 1, 1]], "4 numbers"),
        ([[0, 0, 1, 1, 2, 2, 3]], "7 numbers"),
        ([[0, 0, 1, 1, 2, "2"]], "'polygon' is of type str"),
        ([[0, 0, 1, 1, 2, True]], "'polygon' is of type bool"),
        ([3], "'polygon' is of type int"),
        ("5", "got str"),
        ([[0, 0, 31, 1, 2, 2]], "leaves the image of 30 x 20"),
        ([[0, 0, 1, 21, 2, 2]], "leaves the image of 30 x 20"),
        ([[0, 0, 1e300, 1, 2, 2]], "leaves the image"),
        ([[0, 0, -1, 1, 2, 2]], "leaves the image"),
        ([[0, 0, float("nan"), 1, 2, 2]], "leaves the image"),
    ],
)
def test_what_is_no_polygon_of_the_image_is_a_malformed_reply(segmentation: Any, told: str) -> None:
    with pytest.raises(MalformedReply, match=told):
        instance_with(segmentation)


def test_run_lengths_have_no_polygons() -> None:
    runs = handmade.rle(np.ones((HEIGHT, WIDTH), np.bool_))
    assert instance_with(runs).polygons is None
    assert instance_with(None).polygons is None


def test_either_form_is_drawn_alike_and_is_the_same_to_detectron2() -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[2:12, 3:13] = True
    assert contours(mask) == [SQUARE]
    image = Image.new("RGB", (WIDTH, HEIGHT), "navy")
    drawn, outputs = [], []
    for segmentation in (handmade.rle(mask), [SQUARE]):
        found = handmade.instance(1, 3, 2, 13, 12, segmentation=segmentation)
        prediction = handmade.prediction(HEIGHT, WIDTH, instances=[found])
        drawn.append(np.asarray(draw(image, prediction)))
        outputs.append(prediction.to_detectron2()["instances"].pred_masks.numpy())
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != np.asarray(image)).any()
    np.testing.assert_array_equal(outputs[0][0], mask)
    np.testing.assert_array_equal(outputs[0], outputs[1])
