"""Masks are, bit for bit, detectron2's paste followed by pycocotools' encode."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from detectron2.layers import paste_masks_in_image
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from d2serve.handlers.outputs import masks as module
from d2serve.handlers.outputs.masks import encode_masks
from tests.handlers.samples import cases, coco_rles

# PyTorch's grid_sample rounds otherwise on CPUs for which it has no fused multiply-add, and a pixel
# whose probability is 0.5 to the last bit may fall to the other side there.
fused = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="no fused multiply-add"
)

Float32 = NDArray[np.float32]

HALF = np.float32(0.5)
NEAR_HALF = [float(np.nextafter(HALF, np.float32(to))) for to in (0, 1)]
cell_values = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 0.25, 0.75, *NEAR_HALF]), st.floats(0, 1, width=32)
)
cell_counts = st.sampled_from([28, 14, 7, 2, 1])
image_edges = st.one_of(st.integers(1, 12), st.integers(1, 200))


def detectron2_rles(
    masks: Float32, boxes: Float32, height: int, width: int, threshold: float = 0.5
) -> list[dict[str, object]]:
    pasted = paste_masks_in_image(
        torch.from_numpy(masks), torch.from_numpy(boxes), (height, width), threshold
    )
    return coco_rles(pasted.numpy())


def assert_as_detectron2(
    masks: Float32, boxes: Float32, height: int, width: int, threshold: float = 0.5
) -> None:
    ours = encode_masks(masks, boxes, height, width, threshold)
    assert list(ours) == detectron2_rles(masks, boxes, height, width, threshold)


@st.composite
def roi_masks(draw: st.DrawFn) -> Float32:
    """(1, M, M): few distinct values, smooth blobs or noise."""
    cells = draw(cell_counts)
    kind = draw(st.sampled_from(["constant", "cells", "noise", "blob", "ramp"]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind == "constant":
        mask = np.full((cells, cells), draw(cell_values))
    elif kind == "cells":
        chosen = draw(st.lists(cell_values, min_size=1, max_size=5))
        mask = generator.choice(np.array(chosen), (cells, cells))
    elif kind == "noise":
        mask = generator.random((cells, cells))
    elif kind == "ramp":
        mask = np.linspace(0, 1, cells)[None].repeat(cells, 0)
        mask = mask.T if draw(st.booleans()) else mask
    else:
        mask = blob(cells, generator)
    return mask[None].astype(np.float32)


def blob(cells: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """What a mask head answers: a soft-edged region, far from 0.5 nearly everywhere."""
    y, x = np.mgrid[0:cells, 0:cells] / max(cells - 1, 1)
    centre, radius, sharpness = (
        generator.random(2),
        generator.random() * 0.7,
        20 * generator.random(),
    )
    distance = np.hypot(y - centre[0], x - centre[1])
    noise = generator.normal(0, 0.3, (cells, cells))
    return np.asarray(1 / (1 + np.exp(sharpness * (distance - radius) + noise)))


@st.composite
def clipped_intervals(draw: st.DrawFn, length: int) -> tuple[np.float32, np.float32]:
    """Both ends of a box along one axis, clipped and not empty, as postprocess gives them."""
    place = st.one_of(
        st.integers(0, length),
        st.integers(0, 4 * length).map(lambda quarters: quarters / 4),
        st.floats(-0.5 * length, 1.5 * length, width=32),
    )
    low = np.float32(draw(place))
    extent = st.one_of(
        st.sampled_from([1e-38, 1e-30, 1e-6, 1e-3, 0.25, 0.5, 1, 2, length]),
        st.floats(0, length, width=32),
    )
    high = np.float32(low + np.float32(draw(extent)))
    low, high = np.clip(low, 0, length), np.clip(high, 0, length)
    assume(high > low)
    return low, high


@st.composite
def pastes(draw: st.DrawFn) -> tuple[Float32, Float32, int, int]:
    height, width = draw(image_edges), draw(image_edges)
    x0, x1 = draw(clipped_intervals(width))
    y0, y1 = draw(clipped_intervals(height))
    return draw(roi_masks()), np.array([[x0, y0, x1, y1]], np.float32), height, width


@fused
@cases(600)
@given(pastes())
def test_a_pasted_mask(paste: tuple[Float32, Float32, int, int]) -> None:
    assert_as_detectron2(*paste)


@fused
@cases(200)
@given(pastes(), st.one_of(st.sampled_from([0.3, 0.7, 0.25, 0.1]), st.floats(0.01, 1)))
def test_other_thresholds(paste: tuple[Float32, Float32, int, int], threshold: float) -> None:
    assert_as_detectron2(*paste, threshold)


@fused
@pytest.mark.parametrize("cells", [14, 28])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, *NEAR_HALF])
@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 40, 30),
        (0, 0, 1, 1),
        (39, 29, 40, 30),
        (39.9, 29.9, 40, 30),
        (0, 0, 40, 0.001),
        (0, 0, 0.001, 30),
        (12.5, 7.5, 13.5, 8.5),
        (12.49, 7.49, 12.51, 7.51),
        (12.5, 7.5, np.nextafter(np.float32(12.5), np.float32(13)), 8),
        (0, 3, 40, 9),
        (3, 0, 9, 30),
    ],
)
def test_constant_masks_in_telling_boxes(box: tuple[float, ...], value: float, cells: int) -> None:
    masks = np.full((1, cells, cells), value, np.float32)
    assert_as_detectron2(masks, np.array([box], np.float32), 30, 40)


def test_a_run_that_goes_on_in_the_next_column_is_one_run() -> None:
    masks, boxes = np.ones((1, 28, 28), np.float32), np.array([[2, 0, 7, 9]], np.float32)
    assert_as_detectron2(masks, boxes, 9, 20)
    (rle,) = encode_masks(masks, boxes, 9, 20, 0.5)
    one_run = {"size": [9, 20], "counts": [2 * 9, 5 * 9, 13 * 9]}
    assert rle["counts"].encode() == coco_mask.frPyObjects(one_run, 9, 20)["counts"]


@fused
@pytest.mark.parametrize("cells", [14, 28])
@pytest.mark.parametrize("seed", range(3))
def test_a_hundred_masks_in_a_1080p_frame(seed: int, cells: int) -> None:
    generator = np.random.default_rng(seed)
    low = generator.random((100, 2)) * (1900, 1060)
    size = generator.random((100, 2)) ** 2 * (1920, 1080) + 0.1
    boxes = np.concatenate([low, np.minimum(low + size, (1920, 1080))], axis=1).astype(np.float32)
    masks = np.stack([blob(cells, generator) for _ in boxes]).astype(np.float32)
    assert_as_detectron2(masks, boxes, 1080, 1920)


def test_no_masks() -> None:
    none = encode_masks(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), 9, 9, 0.5)
    assert none == ()


@st.composite
def several_pastes(draw: st.DrawFn) -> tuple[Float32, Float32, int, int]:
    """Masks of one image, among them small and large ones next to each other."""
    height, width = draw(image_edges), draw(image_edges)
    count, seed = draw(st.integers(2, 6)), draw(st.integers(0, 2**32 - 1))
    boxes = []
    for _ in range(count):
        x0, x1 = draw(clipped_intervals(width))
        y0, y1 = draw(clipped_intervals(height))
        boxes.append([x0, y0, x1, y1])
    cells, generator = draw(st.sampled_from([14, 28])), np.random.default_rng(seed)
    roi_masks = [
        generator.choice(
            [
                blob(cells, generator),
                generator.random((cells, cells)),
                np.full((cells, cells), draw(cell_values)),
            ]
        )
        for _ in boxes
    ]
    return np.stack(roi_masks).astype(np.float32), np.array(boxes, np.float32), height, width


@fused
@cases(200)
@given(several_pastes(), st.sampled_from([1, 64, 10**6]), st.sampled_from([1, 100, 10**6]))
def test_several_masks_however_they_are_portioned(
    pastes: tuple[Float32, Float32, int, int], columns_at_once: int, pixels_at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_COLUMNS_AT_ONCE", columns_at_once)
        patch.setattr(module, "_PIXELS_AT_ONCE", pixels_at_once)
        assert_as_detectron2(*pastes)


@fused
@cases(100)
@given(
    st.sampled_from([14, 28]), st.integers(0, 2**32 - 1), st.sampled_from([1e-7, 1e-6, 4e-6, 1e-5])
)
def test_masks_that_hover_about_the_threshold(cells: int, seed: int, amplitude: float) -> None:
    """Nearly every pixel is one at which rounding decides."""
    generator = np.random.default_rng(seed)
    masks = (0.5 + generator.normal(0, amplitude, (2, cells, cells))).astype(np.float32)
    box = np.sort(generator.random((2, 2, 2)).astype(np.float32) * 90, axis=1).reshape(2, 4)
    assert_as_detectron2(masks, box, 90, 90)


@fused
@cases(150)
@given(pastes(), st.integers(0, 2**32 - 1))
def test_probabilities_that_are_no_numbers(
    paste: tuple[Float32, Float32, int, int], seed: int
) -> None:
    masks, boxes, height, width = paste
    generator, cells = np.random.default_rng(seed), masks.shape[1]
    masks[0, generator.integers(0, cells, 3), generator.integers(0, cells, 3)] = np.nan
    assert_as_detectron2(masks, boxes, height, width)


@pytest.mark.parametrize("value", [0.9, 0.5])
def test_memory_does_not_grow_with_the_area_of_the_boxes(value: float) -> None:
    """Neither where the edges alone are worked on nor where rounding decides on every pixel."""
    peaks = []
    for height, width in ((400, 400), (1600, 1600)):
        masks = np.full((4, 28, 28), value, np.float32)
        boxes = np.array([[1, 1, width - 1, height - 1]] * 4, np.float32)
        few = masks[:1], boxes[:1]
        tracemalloc.start()
        encode_masks(*(few if value == 0.5 else (masks, boxes)), height, width, 0.5)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5 * peaks[0]
