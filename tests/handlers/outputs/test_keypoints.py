"""Keypoints are those that detectron2 reads off the same heatmaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures.keypoints import heatmaps_to_keypoints
from hypothesis import given
from hypothesis import strategies as st

from d2serve.handlers.outputs.keypoints import keypoints_of
from tests.handlers.samples import cases


def smooth_heatmaps(count: int, kinds: int, cells: int, seed: int) -> torch.Tensor:
    """Logits with a few hills, as a keypoint head answers them."""
    coarse = torch.randn(count, kinds, 7, 7, generator=torch.Generator().manual_seed(seed)) * 4
    return torch.nn.functional.interpolate(coarse, size=(cells, cells), mode="bilinear")


@cases(120)
@given(
    st.integers(0, 6),
    st.integers(1, 17),
    st.sampled_from([14, 28, 56]),
    st.integers(0, 2**16),
    st.lists(st.tuples(*[st.floats(0, 300, width=32)] * 4), min_size=6, max_size=6),
)
def test_equal_to_detectron2(
    count: int, kinds: int, cells: int, seed: int, corners: list[tuple[float, ...]]
) -> None:
    heatmaps = smooth_heatmaps(count, kinds, cells, seed)
    # Boxes narrower than a pixel among them; detectron2 treats those as one pixel wide.
    boxes = torch.tensor(corners, dtype=torch.float32)[:count]
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2])
    expected = heatmaps_to_keypoints(heatmaps, boxes)[:, :, [0, 1, 3]].numpy()
    got = keypoints_of(heatmaps.numpy(), boxes.numpy())
    assert got.shape == (count, kinds, 3)
    assert got.dtype == np.float32
    # A maximum that two pixels share within rounding may be found on either; such maps are rare.
    apart = np.abs(got[..., :2] - expected[..., :2]).max(initial=0.0)
    assert apart <= 0.01
    assert got[..., 2] == pytest.approx(expected[..., 2], rel=1e-4)


def test_a_single_peak_is_found_where_it_is() -> None:
    heatmap = np.full((1, 1, 56, 56), -5, np.float32)
    heatmap[0, 0, 14, 42] = 9
    ((keypoint,),) = keypoints_of(heatmap, np.array([[100, 50, 212, 106]], np.float32))
    assert keypoint[0] == pytest.approx(100 + 112 * 42.5 / 56, abs=1)
    assert keypoint[1] == pytest.approx(50 + 56 * 14.5 / 56, abs=1)
    assert 0 < keypoint[2] < 1
