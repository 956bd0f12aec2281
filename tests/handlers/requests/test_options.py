"""Options are checked against the model, and a wrong one is told with what was got and expected."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.requests.options import DEFAULT_OPTIONS, NAMES, OPTIONS, RequestOptions
from d2serve.handlers.spec.limits import RequestLimits
from tests.handlers.samples import cases, spec_with
from tests.handlers.specs import json_values

NAMED = spec_with(class_names=("circle", "square", "a, b", "7", "circle"), score_thresh=0.25)
SEMANTIC = spec_with(outputs=("sem_seg",))
PROPOSING = spec_with(outputs=("proposal_boxes", "objectness_logits"))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, bytes.decode])
@pytest.mark.parametrize("value", [b"png", b"rle"])
def test_text_comes_in_any_type(kind: Any, value: bytes) -> None:
    got = RequestOptions.parse({"sem_seg": kind(value)}, NAMED)
    assert got == RequestOptions(sem_seg=value.decode())


@pytest.mark.parametrize("given_", [{}, {"sem_seg": None}, dict.fromkeys(NAMES)])
def test_without_options(given_: dict[str, Any]) -> None:
    assert RequestOptions.parse(given_, NAMED) == DEFAULT_OPTIONS == RequestOptions()


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"score_thresh": b"0.5"}, {"score_thresh": 0.5}),
        ({"score_thresh": 1}, {"score_thresh": 1.0}),
        ({"score_thresh": 0.25}, {"score_thresh": 0.25}),
        ({"max_detections": "3"}, {"max_detections": 3}),
        ({"max_detections": 1000}, {"max_detections": 1000}),
        ({"classes": b"circle"}, {"classes": {0, 4}}),
        ({"classes": "square, circle"}, {"classes": {0, 1, 4}}),
        ({"classes": "a, b"}, {"classes": {2}}),
        ({"classes": "1,2"}, {"classes": {1, 2}}),
        ({"classes": "7"}, {"classes": {3}}),
        ({"classes": 2}, {"classes": {2}}),
        ({"classes": ["a, b", 0]}, {"classes": {0, 2}}),
        ({"classes": '["a, b", 0]'}, {"classes": {0, 2}}),
        ({"masks": "polygon", "draw": b"jpeg"}, {"masks": "polygon", "draw": "jpeg"}),
        ({"masks": "none", "draw": "png"}, {"masks": "none", "draw": "png"}),
    ],
)
def test_what_is_accepted(given_: dict[str, Any], expected: dict[str, Any]) -> None:
    assert RequestOptions.parse(given_, NAMED) == RequestOptions(**expected)


def test_ids_of_a_model_without_names() -> None:
    assert RequestOptions.parse({"classes": "0,79"}, spec_with()).classes == frozenset({0, 79})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("sem_seg", b"", "='', expected one of png, rle."),
        ("sem_seg", b"RLE", "='RLE', expected one of png, rle."),
        ("sem_seg", b"rle\n", r"='rle\n', expected one of"),
        ("sem_seg", b"\xff\x00", r"='\ufffd\x00', expected"),
        ("masks", "größer", r"='gr\xf6\xdfer', expected one of rle, polygon, none."),
        ("masks", {"a": 1}, "={'a': 1}, expected"),
        ("draw", True, "=True, expected one of png, jpeg."),
        ("draw", ["png"], "=['png'], expected one of"),
        ("score_thresh", 0.2, "=0.2, expected 0.25 or more: below 0.25 this archive's model"),
        ("score_thresh", "1.5", "='1.5', expected a score from 0 to 1."),
        ("score_thresh", "nan", "='nan', expected a score"),
        ("score_thresh", "", "='', expected a score"),
        ("score_thresh", 10**400, "expected a score"),
        ("score_thresh", True, "=True, expected a score"),
        ("score_thresh", [0.5], "=[0.5], expected a score"),
        ("max_detections", 0, "=0, expected a whole number from 1 to 1000."),
        ("max_detections", "1001", "='1001', expected a whole number from 1 to 1000."),
        ("max_detections", 2.0, "=2.0, expected"),
        ("max_detections", True, "=True, expected"),
        ("max_detections", "²", r"='\xb2', expected"),
        ("max_detections", "9" * 5000, "expected a whole number"),
        ("classes", "cirle", "='cirle', expected ids from 0 to 4 or names: circle, square, a, b"),
        ("classes", "5", "='5', expected ids from 0 to 4"),
        ("classes", "-1", "='-1', expected ids"),
        ("classes", True, "=True, expected names or ids"),
        ("classes", [True], "=True, expected ids"),
        ("classes", [{}], "={}, expected ids"),
        ("classes", [], "=[], expected names or ids of classes, one at least"),
        ("classes", "", "='', expected ids"),
        ("classes", "[1", "='[1', expected a list as JSON has it"),
        ("classes", "[" * 100_000, "expected a list as JSON has it"),
        ("classes", {"circle": 1}, "expected names or ids"),
        ("classes", None, None),
    ],
)
def test_what_is_wrong_is_told(name: str, value: Any, told: str | None) -> None:
    if told is None:
        assert RequestOptions.parse({name: value}, NAMED) == DEFAULT_OPTIONS
        return
    with pytest.raises(InvalidOption) as caught:
        RequestOptions.parse({name: value}, NAMED)
    message = str(caught.value)
    assert message.startswith(f"Got the option {name}=")
    assert told in message
    assert (caught.value.status, caught.value.code) == (400, "invalid_option")


@pytest.mark.parametrize("name", ["treshold", "Masks", "", "x" * 10**5, "naïve\n", "image"])
def test_an_option_that_does_not_exist(name: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        RequestOptions.parse({name: "1", "masks": "none"}, NAMED)
    message = str(caught.value)
    assert "which does not exist. Options are score_thresh, max_detections, classes, m" in message
    assert message.isascii()
    assert len(message) < 250


@pytest.mark.parametrize("spec", [SEMANTIC, PROPOSING])
@pytest.mark.parametrize("name", ["score_thresh", "classes"])
def test_what_a_model_without_instances_cannot_do(spec: Any, name: str) -> None:
    with pytest.raises(InvalidOption, match="this model finds no instances"):
        RequestOptions.parse({name: 1}, spec)


def test_detections_of_other_families() -> None:
    assert RequestOptions.parse({"max_detections": 5}, PROPOSING).max_detections == 5
    with pytest.raises(InvalidOption, match="this model answers label maps only"):
        RequestOptions.parse({"max_detections": 5}, SEMANTIC)


def test_detections_are_bounded_by_the_limit() -> None:
    spec = spec_with(limits=RequestLimits(max_detections=10))
    with pytest.raises(InvalidOption, match="from 1 to 10"):
        RequestOptions.parse({"max_detections": 11}, spec)


def test_a_long_value_is_cut() -> None:
    with pytest.raises(InvalidOption) as caught:
        RequestOptions.parse({"sem_seg": b"x" * 10**6}, NAMED)
    assert len(str(caught.value)) < 200


@cases(500)
@given(st.sampled_from(NAMES), json_values | st.binary(max_size=30))
def test_any_value_is_accepted_or_told(name: str, value: Any) -> None:
    told = f"option {name}="
    try:
        RequestOptions.parse({name: value}, NAMED)
    except InvalidOption as error:
        told = str(error)
    assert f"option {name}=" in told
    assert told.isascii()


@pytest.mark.parametrize("value", [np.float32(0.7), float(np.float32(0.7)), "0.7", 0.7])
def test_the_models_own_threshold_as_a_float32_is_not_below_it(value: Any) -> None:
    assert RequestOptions.parse({"score_thresh": value}, spec_with(score_thresh=0.7)) is not None


def test_numbers_of_numpy() -> None:
    read = RequestOptions.parse({"max_detections": np.int64(3), "classes": np.int32(1)}, NAMED)
    assert (read.max_detections, read.classes) == (3, frozenset({1}))


# The class of id 0 is called "2".
DIGITS = spec_with(class_names=("2", "circle", "square"))


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (2, {2}),
        ([2], {2}),
        ("[2]", {2}),
        (b"[2]", {2}),
        (["2"], {0}),
        ('["2"]', {0}),
        (b'["2", 2]', {0, 2}),
        (["2", "1"], {0, 1}),
        ("0", {0}),
        ("1,square", {1, 2}),
    ],
)
def test_a_class_whose_name_is_another_ones_id(value: Any, ids: set[int]) -> None:
    assert RequestOptions.parse({"classes": value}, DIGITS).classes == frozenset(ids)


@pytest.mark.parametrize("value", ["2", b"2", "circle,2", " 2"])
def test_a_text_that_is_a_name_and_another_ones_id_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOption, match=r'name of a class .* \["2"\] .* name, \[2\] .* id'):
        RequestOptions.parse({"classes": value}, DIGITS)


def test_every_option_is_a_field() -> None:
    assert tuple(field.name for field in dataclasses.fields(RequestOptions)) == NAMES


def test_a_words_default_is_its_fields() -> None:
    for option in OPTIONS:
        if option.choices:
            assert getattr(DEFAULT_OPTIONS, option.name) in (option.default, None)
            assert option.type is str


def test_the_table_is_imported_without_numpy() -> None:
    """So that a command's help may be made of it."""
    code = (
        "import sys\n"
        "import d2serve.handlers.requests.options, d2serve.handlers.replies.fields\n"
        "assert not {'numpy', 'PIL', 'torch'} & set(sys.modules)"
    )
    path = os.pathsep.join(each for each in sys.path if each)
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, env={**os.environ, "PYTHONPATH": path}
    )
