"""Boxes are pooled, points sampled and overlapping boxes dropped as ONNX Runtime does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("d2serve.export.programs.tensorflow", reason="TensorFlow is not installed")

from d2serve.export.programs.tensorflow import sampling, suppression
from tests.export.programs.tensorflow.single_nodes import assert_same, drawn

FEATURES = (2, 5, 13, 17)
seeds = st.integers(0, 2**31)


def test_every_operator_of_the_tables_is_asked() -> None:
    asked = {"RoiAlign", "GridSample", "NonMaxSuppression"}
    assert asked == {*sampling.OPERATORS, *suppression.OPERATORS}


def boxes_of(seed: int, count: int, most: float) -> np.ndarray:
    """Some beyond the borders, some without a width."""
    random = np.random.default_rng(seed)
    corners = random.uniform(-0.2 * most, 1.2 * most, (count, 2, 2)).astype(np.float32)
    corners.sort(axis=1)
    boxes = corners.reshape(count, 4)
    boxes[::7, 2] = boxes[::7, 0]
    return boxes


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=seeds, count=st.sampled_from([0, 1, 30]), ratio=st.integers(0, 3),
    size=st.sampled_from([(7, 7), (1, 4), (14, 2)]),
    mode=st.sampled_from(["half_pixel", "output_half_pixel"]), last=st.booleans(),
    most=st.sampled_from([0.5, 4.0, 80.0, 200.0]),
)  # fmt: skip
def test_pooled_boxes(
    seed: int, count: int, ratio: int, size: tuple[int, int], mode: str, last: bool, most: float
) -> None:
    attributes: dict[str, Any] = {
        "output_height": size[0], "output_width": size[1], "sampling_ratio": ratio,
        "spatial_scale": 0.25, "coordinate_transformation_mode": mode,
    }  # fmt: skip
    image_of = np.random.default_rng(seed).integers(0, 2, count)
    assert_same(
        "RoiAlign",
        [drawn(seed, *FEATURES), boxes_of(seed, count, most), image_of],
        attributes,
        channels_last=(0,) if last else (),
        within=1e-4,
    )


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=seeds, count=st.sampled_from([0, 2]), corners=st.integers(0, 1), last=st.booleans(),
    mode=st.sampled_from(["bilinear", "nearest"]), padding=st.sampled_from(["zeros", "border"]),
)  # fmt: skip
def test_sampled_points(
    seed: int, count: int, corners: int, last: bool, mode: str, padding: str
) -> None:
    grid = np.random.default_rng(seed).uniform(-1.4, 1.4, (count, 6, 3, 2)).astype(np.float32)
    assert_same(
        "GridSample",
        [drawn(seed, count, *FEATURES[1:]), grid],
        {"align_corners": corners, "mode": mode, "padding_mode": padding},
        channels_last=(0,) if last else (),
        within=1e-4,
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=seeds, images=st.integers(0, 2), labels=st.integers(0, 3),
    count=st.sampled_from([0, 1, 40]), center=st.integers(0, 1),
    most=st.sampled_from([0, 3, 2**62]), overlap=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    least=st.sampled_from([None, 0.3]),
)  # fmt: skip
def test_overlapping_boxes(
    seed: int, images: int, labels: int, count: int, center: int, most: int, overlap: float,
    least: float | None,
) -> None:  # fmt: skip
    """Half of the scores are equal to others, and half of the boxes to others."""
    random = np.random.default_rng(seed)
    boxes = np.stack([boxes_of(seed + image, count, 20) for image in range(images)] or [
        np.zeros((count, 4), np.float32)])[:images]  # fmt: skip
    boxes[:, 1::2] = boxes[:, : count - count // 2 : 1][:, : len(boxes[0, 1::2])] if images else 0
    scores = (random.integers(0, 12, (images, labels, count)) / 12).astype(np.float32)
    thresholds = [np.array([overlap], np.float32)]
    if least is not None:
        thresholds.append(np.array([least], np.float32))
    given_all = [boxes, scores, np.array([most]), *thresholds]
    assert_same("NonMaxSuppression", given_all, {"center_point_box": center})


def test_as_many_boxes_as_a_detector_has() -> None:
    """One class of one image, known to be so, as torch writes it."""
    random = np.random.default_rng(3)
    corner = random.uniform(0, 600, (1, 3000, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0, 200, (1, 3000, 2))], 2)
    scores = random.uniform(0, 1, (1, 1, 3000)).astype(np.float32)
    (kept,) = assert_same(
        "NonMaxSuppression",
        [boxes.astype(np.float32), scores, np.array([2**62]), np.array([0.7], np.float32)],
    )
    assert 500 < len(kept) < 2900
