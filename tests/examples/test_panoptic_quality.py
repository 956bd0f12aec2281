"""Panoptic quality against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from examples.shapes.panoptic_quality import PanopticQuality

# A square of 10 x 10: the left 6 columns are segment 1, the rest segment 2.
TRUE = np.where(np.arange(10) < 6, 1, 2)[None, :].repeat(10, axis=0)
CLASSES = {1: 7, 2: 8}


def test_a_perfect_answer_scores_one() -> None:
    quality = PanopticQuality()
    quality.add(TRUE + 10, {11: 7, 12: 8}, TRUE, CLASSES)
    assert quality.mean([7, 8]) == 1.0


def test_a_shifted_border_scores_the_iou() -> None:
    quality = PanopticQuality()
    quality.add(
        np.where(np.arange(10) < 5, 1, 2)[None, :].repeat(10, axis=0), CLASSES, TRUE, CLASSES
    )
    assert quality.tallies[7].quality == pytest.approx(50 / 60)
    assert quality.tallies[8].quality == pytest.approx(40 / 50)


def test_half_an_overlap_is_no_match() -> None:
    quality = PanopticQuality()
    predicted = np.where(np.arange(10) < 3, 1, 0)[None, :].repeat(10, axis=0)
    quality.add(predicted, {1: 7}, TRUE, CLASSES)
    tally = quality.tallies[7]
    assert (tally.matched, tally.spurious, tally.missed) == (0, 1, 1)
    assert quality.tallies[8].missed == 1
    assert quality.mean([7, 8]) == 0.0


def test_a_wrong_class_is_both_spurious_and_missed() -> None:
    quality = PanopticQuality()
    quality.add(TRUE, {1: 8, 2: 8}, TRUE, CLASSES)
    assert quality.tallies[7].missed == 1
    assert quality.tallies[8].quality == pytest.approx(1.0 / 1.5)


def test_unlabelled_pixels_count_for_nothing() -> None:
    quality = PanopticQuality()
    true = TRUE.copy()
    true[:, 6:] = 0
    predicted = np.ones_like(true)
    quality.add(predicted, {1: 7}, true, {1: 7})
    assert quality.tallies[7].quality == 1.0
    quality.add(np.where(true == 0, 5, 1), {1: 7, 5: 8}, true, {1: 7})
    assert quality.tallies[8].spurious == 0


def test_classes_that_nobody_saw_are_left_out() -> None:
    quality = PanopticQuality()
    quality.add(TRUE, CLASSES, TRUE, CLASSES)
    assert quality.mean([7, 8, 9]) == 1.0


def test_maps_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="in size"):
        PanopticQuality().add(TRUE[:5], CLASSES, TRUE, CLASSES)
