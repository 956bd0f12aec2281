"""Limits are what the archive says, but for those that the YAML sets, which are checked at load."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from d2serve.handlers.errors import LoadError
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, NAMES, RequestLimits, problems_of


def test_the_defaults_are_valid_and_are_torchserves_where_it_has_one() -> None:
    assert problems_of(dataclasses.asdict(DEFAULT_LIMITS)) == []
    assert DEFAULT_LIMITS.max_reply_bytes == 6_553_500


def test_without_settings_they_stay() -> None:
    limits = RequestLimits(max_frames=3)
    assert limits.overridden(None) is limits
    assert limits.overridden({}) == limits


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_set(name: str) -> None:
    limits = RequestLimits(max_image_bytes=9, max_frames=9).overridden({name: 2})
    expected = {**dataclasses.asdict(RequestLimits(max_image_bytes=9, max_frames=9)), name: 2}
    assert dataclasses.asdict(limits) == expected


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"max_frames": 0}, "max_frames is 0, expected a whole number from 1"),
        ({"max_frames": "10"}, "max_frames is '10', expected a whole number"),
        ({"max_frames": 1.0}, "max_frames is 1.0, expected a whole number"),
        ({"max_frames": True}, "max_frames is True, expected a whole number"),
        ({"max_frames": None}, "max_frames is None, expected a whole number"),
        ({"max_image_pixels": 10**9}, "from 1 to 178956970"),
        ({"max_decode_seconds": 0}, "max_decode_seconds is 0, expected seconds, above 0"),
        ({"max_decode_seconds": float("nan")}, "max_decode_seconds is nan, expected seconds"),
        ({"max_size": 3}, "'max_size' is no limit, expected one of max_image_bytes, max_image_pix"),
        ({1: 3}, "1 is no limit"),
        ({"max_frames": 0, "max_size": 3}, "max_frames is 0.*; 'max_size' is no limit"),
        ([], r"limits in the model's YAML is \[\], expected names and values"),
        (5, "is 5, expected names and values"),
    ],
)
def test_what_is_wrong_is_told(settings: Any, told: str) -> None:
    with pytest.raises(LoadError, match=told):
        DEFAULT_LIMITS.overridden(settings)
