"""Convolutions, pooling and resizing are ONNX Runtime's, of batches without an image too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("d2serve.export.programs.tensorflow", reason="TensorFlow is not installed")

from d2serve.export.errors import ProgramError
from d2serve.export.programs.tensorflow import convolutions, pooling, resizing
from tests.export.programs.tensorflow.single_nodes import answers_of, assert_same, drawn, program_of

ASKED = (
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
    "Resize",
)  # fmt: skip
IMAGES = (2, 4, 9, 11)
batches = st.sampled_from([0, 1, 2])
two = st.lists(st.integers(1, 3), min_size=2, max_size=2)
pads = st.lists(st.integers(0, 2), min_size=4, max_size=4)


def test_every_operator_of_the_tables_is_asked() -> None:
    assert set(ASKED) == {*convolutions.OPERATORS, *pooling.OPERATORS, *resizing.OPERATORS}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    batch=batches, window=two, strides=two, dilations=two, around=pads,
    groups=st.sampled_from([1, 2, 4]), known=st.booleans(), bias=st.booleans(), last=st.booleans(),
)  # fmt: skip
def test_convolution(
    batch: int, window: list[int], strides: list[int], dilations: list[int], around: list[int],
    groups: int, known: bool, bias: bool, last: bool,
) -> None:  # fmt: skip
    filters = drawn(2, 8, 4 // groups, *window)
    attributes = {"strides": strides, "dilations": dilations, "pads": around, "group": groups}
    assert_same(
        "Conv",
        [drawn(1, batch, *IMAGES[1:]), filters, *([drawn(3, 8)] if bias else [])],
        attributes,
        known=(1, 2) if known or groups > 1 else (),
        channels_last=(0,) if last else (),
        within=1e-4,
    )


@pytest.mark.parametrize("batch", [0, 2])
def test_convolution_of_lines(batch: int) -> None:
    given_all = [drawn(1, batch, 4, 9), drawn(2, 8, 4, 3), drawn(3, 8)]
    attributes = {"pads": [1, 2], "strides": [2]}
    assert_same("Conv", given_all, attributes, known=(1, 2), within=1e-4)
    assert_same("Conv", given_all, {"dilations": [2]}, within=1e-4)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    batch=batches, window=two, strides=two, around=pads, added=st.booleans(), known=st.booleans()
)
def test_transposed_convolution(
    batch: int, window: list[int], strides: list[int], around: list[int], added: bool, known: bool
) -> None:
    assume(all(around[axis] + around[axis + 2] < window[axis] + 7 for axis in (0, 1)))
    assume(all(each < size for each, size in zip(around, [*window, *window])))
    attributes: dict[str, Any] = {"strides": strides, "pads": around}
    if added:
        attributes["output_padding"] = [each - 1 for each in strides]
    given_all = [drawn(1, batch, *IMAGES[1:]), drawn(2, 4, 6, *window), drawn(3, 6)]
    assert_same("ConvTranspose", given_all, attributes, (1, 2) if known else (), within=1e-4)


def test_what_is_not_known_is_refused_by_name() -> None:
    volumes = [drawn(1, 1, 2, 3, 4, 5), drawn(2, 2, 2, 1, 1, 1)]
    in_groups = [drawn(1, 1, 4, 5, 5), drawn(2, 4, 1, 2, 2)]
    for operator, given_all, attributes in (
        ("Conv", volumes, {}),
        ("ConvTranspose", in_groups, {"group": 4}),
        ("MaxPool", [drawn(1, 1, 2, 9, 9)], {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    ):
        program = program_of(operator, given_all, attributes)
        with pytest.raises(ProgramError, match=rf"{operator} \(node the_node\): .*--format onnx"):
            answers_of(program, given_all)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(batch=batches, window=two, strides=two, around=pads, ceil=st.booleans(), last=st.booleans())
def test_greatest_of_windows(
    batch: int, window: list[int], strides: list[int], around: list[int], ceil: bool, last: bool
) -> None:
    assume(all(each < size for each, size in zip(around, [*window, *window])))
    attributes = {
        "kernel_shape": window, "strides": strides, "pads": around, "ceil_mode": int(ceil),
    }  # fmt: skip
    channels_last = (0,) if last else ()
    x = drawn(1, batch, *IMAGES[1:])
    assert_same("MaxPool", [x], attributes, channels_last=channels_last)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(batch=batches, window=two, strides=two, around=pads, counted=st.booleans())
def test_averages_of_windows(
    batch: int, window: list[int], strides: list[int], around: list[int], counted: bool
) -> None:
    assume(all(each < size for each, size in zip(around, [*window, *window])))
    attributes = {
        "kernel_shape": window, "strides": strides, "pads": around,
        "count_include_pad": int(counted),
    }  # fmt: skip
    assert_same("AveragePool", [drawn(1, batch, *IMAGES[1:])], attributes)


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("batch", [0, 2])
def test_of_whole_images(operator: str, batch: int) -> None:
    assert_same(operator, [drawn(1, batch, *IMAGES[1:])])


MODES = (
    ("nearest", "asymmetric", "floor"),
    ("nearest", "half_pixel", "round_prefer_floor"),
    ("nearest", "half_pixel", "round_prefer_ceil"),
    ("nearest", "align_corners", "ceil"),
    ("linear", "half_pixel", None),
    ("linear", "pytorch_half_pixel", None),
    ("linear", "align_corners", None),
    ("linear", "asymmetric", None),
    ("cubic", "half_pixel", None),
    ("cubic", "align_corners", None),
)


@pytest.mark.parametrize(("mode", "where", "rounding"), MODES)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    size=st.lists(st.integers(1, 30), min_size=2, max_size=2), known=st.booleans(),
    last=st.booleans(),
)  # fmt: skip
def test_resizing_to_a_size(
    mode: str, where: str, rounding: str | None, size: list[int], known: bool, last: bool
) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": where}
    if rounding:
        attributes["nearest_mode"] = rounding
    assert_same(
        "Resize",
        [drawn(1, *IMAGES), None, None, np.array([*IMAGES[:2], *size], np.int64)],
        attributes,
        known=(3,) if known else (),
        channels_last=(0,) if last else (),
        tuples=(3,),
        within=1e-4,
    )


@pytest.mark.parametrize(("mode", "where", "rounding"), MODES)
@pytest.mark.parametrize("scales", [(2.0, 2.0), (1.5, 0.7), (4.0, 1.0)])
def test_resizing_by_a_factor(
    mode: str, where: str, rounding: str | None, scales: tuple[float, float]
) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": where}
    if rounding:
        attributes["nearest_mode"] = rounding
    factors = np.array([1, 1, *scales], np.float32)
    given_all = [drawn(1, *IMAGES), None, factors]
    assert_same("Resize", given_all, attributes, known=(2,), within=1e-4)


def test_resizing_lines_that_the_program_has() -> None:
    """As a ViT's positions are fitted to an image."""
    given_all = [drawn(1, 1, 8, 13), None, None, np.array([1, 8, 31], np.int64)]
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    assert_same("Resize", given_all, attributes, known=(0,), tuples=(3,))
