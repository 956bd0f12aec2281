"""Label maps: what was packed is what is unpacked, and what was promised is held to."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from d2serve.client.errors import MalformedReply
from d2serve.client.results.prediction import PanopticSegment, parse_prediction
from tests.client import handmade
from tests.client.handmade import panoptic_seg, png, prediction, reply, rle, sem_seg, stuff, thing

SIZES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
BYTES = hnp.arrays(np.uint8, SIZES)
FEW = hnp.arrays(np.uint8, SIZES, elements=st.integers(0, 3))
WORDS = hnp.arrays(np.uint16, SIZES, elements=st.integers(0, 65_535), fill=st.just(256))

LABELS = np.array([[0, 0, 2], [2, 2, 300]])
IDS = np.array([[0, 1, 1], [2, 2, 1]])


def with_sem_seg(**changed: Any) -> dict[str, Any]:
    whole = {**sem_seg(LABELS), **changed}
    return reply(2, 3, sem_seg={name: v for name, v in whole.items() if v is not None})


def with_panoptic(*segments: dict[str, Any], ids: NDArray[Any] = IDS) -> dict[str, Any]:
    """As a panoptic model's, with one instance."""
    found = [handmade.instance(0, 0, 0, 3, 2, segmentation=rle(ids == 1))]
    return reply(2, 3, instances=found, panoptic_seg=panoptic_seg(ids, *segments))


@given(FEW | BYTES | WORDS)
def test_label_maps_survive_the_way(labels: NDArray[Any]) -> None:
    height, width = labels.shape
    answer = parse_prediction(json.dumps(reply(height, width, sem_seg=sem_seg(labels))))
    assert answer.sem_seg is not None
    unpacked = answer.sem_seg.label_map()
    assert unpacked.dtype == np.int32
    np.testing.assert_array_equal(unpacked, labels)


@given(FEW)
def test_run_lengths_give_the_same_label_map(labels: NDArray[Any]) -> None:
    height, width = labels.shape
    answer = prediction(height, width, sem_seg=sem_seg(labels, as_rle=True))
    assert answer.sem_seg is not None
    assert answer.sem_seg.png is None
    np.testing.assert_array_equal(answer.sem_seg.label_map(), labels)
    for each in answer.sem_seg.classes:
        assert each.segmentation is not None
        assert each.segmentation.area() == each.area


@given(FEW | BYTES | WORDS)
def test_segment_ids_survive_the_way(ids: NDArray[Any]) -> None:
    height, width = ids.shape
    segments = [stuff(ids, number, 7) for number in np.unique(ids).tolist() if number > 0]
    answer = prediction(height, width, panoptic_seg=panoptic_seg(ids, *segments))
    assert answer.panoptic_seg is not None
    np.testing.assert_array_equal(answer.panoptic_seg.label_map(), ids)


def test_small_labels_may_travel_in_16_bits() -> None:
    answer = parse_prediction(with_sem_seg(png=png(LABELS.astype(np.uint16))))
    assert answer.sem_seg is not None
    np.testing.assert_array_equal(answer.sem_seg.label_map(), LABELS)


def test_a_semantic_model_has_no_instances() -> None:
    answer = parse_prediction(with_sem_seg())
    assert (answer.has_instances, answer.instances) == (False, ())
    assert (answer.proposals, answer.panoptic_seg) == (None, None)
    assert answer.sem_seg is not None
    assert answer.sem_seg.size == (2, 3)
    assert [(c.category_id, c.label(), c.area) for c in answer.sem_seg.classes] == [
        (0, "name 0", 2),
        (2, "name 2", 3),
        (300, "name 300", 1),
    ]


def test_things_have_a_score_and_an_instance_and_stuff_has_neither() -> None:
    answer = parse_prediction(with_panoptic(thing(IDS, 1), stuff(IDS, 2, 5, category_name="sky")))
    assert answer.has_instances
    assert answer.panoptic_seg is not None
    assert answer.panoptic_seg.segments_info == (
        PanopticSegment(1, 0, True, 3, None, 0.9, 0),
        PanopticSegment(2, 5, False, 2, "sky", None, None),
    )
    assert [each.label() for each in answer.panoptic_seg.segments_info] == ["category 0", "sky"]


GREY = LABELS.astype(np.uint16)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"size": [3, 2]}, r"\[3, 2\], not the image's \[height, width\] \[2, 3\]"),
        ({"size": [2]}, "not the image's"),
        ({"classes": None}, "'classes' is missing"),
        ({"classes": [{"category_id": 65_536, "area": 1}]}, "65536, not 0 to 65535"),
        ({"classes": [{"category_id": -1, "area": 1}]}, "-1, not 0 to 65535"),
        ({"classes": [{"category_id": 1, "area": -1}]}, "'area' is -1"),
        ({"classes": [{"category_id": 1, "area": 1}] * 2}, "same 'category_id'"),
        ({"png": None}, "neither 'png' nor a 'segmentation' for each class"),
        ({"png": 7}, "'png' is of type int"),
        ({"png": "no base64!"}, "not base64"),
        ({"png": "é"}, "not base64"),
        ({"png": base64.b64encode(b"GIF89a\x03\x00\x02\x00").decode()}, "no PNG.*GIF89a"),
        ({"png": png(GREY.T)}, r"2 x 3 pixels, not the image's 3 x 2"),
        ({"png": png(np.zeros((2, 3, 3), np.uint8))}, "8 bits and PNG's kind of colour 2"),
        ({"png": png(np.zeros((2, 3), np.bool_))}, "1 bits"),
    ],
)
def test_a_sem_seg_that_is_not_as_promised_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(MalformedReply, match=told):
        parse_prediction(with_sem_seg(**changed))


def test_run_lengths_of_another_size_are_refused() -> None:
    turned = sem_seg(LABELS.T, as_rle=True)["classes"]
    with pytest.raises(MalformedReply, match=r"segmentation is \[3, 2\], not the image's"):
        parse_prediction(with_sem_seg(png=None, classes=turned))


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ([(0, LABELS == 0), (2, LABELS == 2)], "1 of 6 pixels are in the segmentation of no class"),
        ([(0, LABELS >= 0), (2, LABELS == 2), (300, LABELS == 300)], "2 pixels of 0, but"),
    ],
)
def test_run_lengths_hold_each_pixel_once(classes: list[tuple[int, Any]], told: str) -> None:
    listed = [
        {"category_id": label, "area": int(mask.sum()), "segmentation": rle(mask)}
        for label, mask in classes
    ]
    answer = parse_prediction(with_sem_seg(png=None, classes=listed))
    assert answer.sem_seg is not None
    with pytest.raises(MalformedReply, match=told):
        answer.sem_seg.label_map()


@pytest.mark.parametrize("kept", [0.4, 0.6, 0.7])
def test_a_png_that_was_cut_off_is_one_clear_error(kept: float) -> None:
    labels = np.random.default_rng(0).integers(0, 65_536, (2, 3))
    whole = base64.b64decode(png(labels.astype(np.uint16)))
    cut = whole[: max(30, int(kept * len(whole)))]
    answer = parse_prediction(with_sem_seg(png=base64.b64encode(cut).decode()))
    assert answer.sem_seg is not None
    with pytest.raises(MalformedReply, match="cannot be decoded"):
        answer.sem_seg.label_map()


@given(st.data())
def test_a_damaged_png_is_never_another_error(data: st.DataObject) -> None:
    damaged = bytearray(base64.b64decode(png(GREY)))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    text = base64.b64encode(damaged).decode()
    try:
        answer = parse_prediction(with_sem_seg(png=text))
        assert answer.sem_seg is not None
        np.testing.assert_array_equal(answer.sem_seg.label_map(), LABELS)
    except MalformedReply:
        pass


@pytest.mark.parametrize(
    ("segments", "told"),
    [
        ([thing(IDS, 1), stuff(IDS, 2, 5, isthing=1)], "'isthing' is of type int"),
        ([thing(IDS, 1, instance_id=1), stuff(IDS, 2, 5)], "'instance_id' is 1 of 1 instances"),
        ([thing(IDS, 1, instance_id=None)], "'instance_id' is of type NoneType"),
        ([thing(IDS, 1, id=0)], "'id' is 0, not 1 to 65535"),
        ([thing(IDS, 1), stuff(IDS, 1, 5)], "same 'id'"),
    ],
)
def test_segments_that_are_not_as_promised_are_refused(
    segments: list[dict[str, Any]], told: str
) -> None:
    with pytest.raises(MalformedReply, match=told):
        parse_prediction(with_panoptic(*segments))


@pytest.mark.parametrize(
    ("segments", "told"),
    [
        ([thing(IDS, 1)], "2 pixels of 2, but the reply lists 2 with an area of 0"),
        ([thing(IDS, 1, area=4), stuff(IDS, 2, 5)], "3 pixels of 1, but .* an area of 4"),
    ],
)
def test_a_map_that_differs_from_its_list_is_refused(
    segments: list[dict[str, Any]], told: str
) -> None:
    answer = parse_prediction(with_panoptic(*segments))
    assert answer.panoptic_seg is not None
    with pytest.raises(MalformedReply, match=told):
        answer.panoptic_seg.label_map()
