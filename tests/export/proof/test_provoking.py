"""A doubt is provoked on either side of what its line compares with, as far as sizes allow."""

from __future__ import annotations

import numpy as np
import pytest

from d2serve.export.programs.doubting.doubts import Doubt
from d2serve.export.proof.provoking import Reach, provoking_images
from d2serve.export.reading.image_files import Pixels
from d2serve.handlers.requests.preprocessing import resized_shape

SAMPLE = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
RESIZING, AS_SENT = Reach(800, 1333, 100), Reach(0, 1333, 100)


def doubt(*thresholds: float) -> tuple[Doubt, ...]:
    return (Doubt("heads.py:30", "if size > limit:", thresholds),)


def inputs_for(limit: float, reach: Reach) -> set[tuple[int, int]]:
    images, _ = provoking_images(SAMPLE, doubt(limit), reach, lambda _image: 1000)
    return {
        resized_shape(image.shape[0], image.shape[1], reach.min_size, reach.max_size)
        for image in images.values()
    }


@pytest.mark.parametrize(
    ("limit", "reach"),
    [(2000, AS_SENT), (512, AS_SENT), (1000, RESIZING), (1200, RESIZING), (300, RESIZING)],
)
def test_sizes_lie_on_either_side_of_the_number(limit: float, reach: Reach) -> None:
    inputs = inputs_for(limit, reach)
    for side in (0, 1):
        assert any(each[side] > limit for each in inputs)
        assert any(each[side] < limit for each in inputs)


def test_the_widest_and_the_tallest_are_always_there() -> None:
    inputs = inputs_for(1e9, RESIZING)
    assert (800, 1333) in inputs
    assert (1333, 800) in inputs


def test_many_images_are_not_made_of_many_numbers() -> None:
    numbers = tuple(range(100, 1000, 10))
    images, _ = provoking_images(SAMPLE, doubt(*numbers), AS_SENT, lambda _image: 1000)
    assert len(images) <= 16


def test_a_crowd_has_more_instances_than_the_number() -> None:
    images, missing = provoking_images(SAMPLE, doubt(40), RESIZING, by_area)
    assert missing == ()
    assert any(by_area(image) > 40 for image in images.values())


def test_a_number_that_no_crowd_reaches_is_told() -> None:
    _, missing = provoking_images(SAMPLE, doubt(80), RESIZING, lambda _image: 20)
    assert missing == ("more than 80",)


def test_a_number_beyond_what_a_model_finds_is_none_of_instances() -> None:
    _, missing = provoking_images(SAMPLE, doubt(2000), AS_SENT, lambda _image: 20)
    assert missing == ()


def test_no_doubt_costs_no_image() -> None:
    def counted(_image: Pixels) -> int:
        raise AssertionError("nothing is to be counted")

    assert provoking_images(SAMPLE, (), RESIZING, counted) == ({}, ())


def by_area(image: Pixels) -> int:
    height, width = image.shape[:2]
    return int(15 * height * width // (240 * 320))
