"""A label map comes back from its PNG; its RLEs are pycocotools' of each label."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from d2serve.handlers.replies.label_maps import areas_of, to_png, to_rles
from tests.handlers.samples import cases, coco_rles

Labels = NDArray[np.int32]
label_maps = st.tuples(
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from([1, 2, 5, 256, 257, 65536]),
).flatmap(lambda case: hnp.arrays(np.int32, case[0], elements=st.integers(0, case[1] - 1)))


def read(png: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(png, validate=True)), formats=["PNG"])


@cases(300)
@given(label_maps)
def test_png(labels: Labels) -> None:
    image = read(to_png(labels))
    np.testing.assert_array_equal(np.asarray(image), labels)
    assert image.mode == ("L" if labels.max() < 256 else "I;16")


@cases(300)
@given(label_maps)
@example(np.zeros((3, 4), np.int32))
@example(np.full((1, 1), 7, np.int32))
@example(np.arange(12, dtype=np.int32).reshape(3, 4))
def test_rles_and_areas(labels: Labels) -> None:
    present = np.unique(labels)
    masks = labels == present[:, None, None]
    assert list(to_rles(labels)) == coco_rles(masks)
    got, areas = areas_of(labels)
    assert got.tolist() == present.tolist()
    assert areas.tolist() == masks.sum(axis=(1, 2)).tolist()


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_map(order: str) -> None:
    coarse = np.random.default_rng(0).integers(0, 54, (30, 40))
    labels = np.kron(coarse, np.ones((36, 36), np.int64)).astype(np.int32, order=order)  # type: ignore[call-overload]
    present = np.unique(labels)
    assert list(to_rles(labels)) == coco_rles(labels == present[:, None, None])
    np.testing.assert_array_equal(np.asarray(read(to_png(labels))), labels)
