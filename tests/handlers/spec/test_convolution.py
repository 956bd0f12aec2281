"""Which convolutions run is chosen by a word of the model's YAML, or the load is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2serve.handlers.detector import Detector
from d2serve.handlers.errors import LoadError
from d2serve.handlers.spec.convolution import (
    CONVOLUTIONS,
    checked,
    is_automatic,
    require_replaceable,
)


@pytest.mark.parametrize("wrong", ["Winograd", "fft", None, 3, True])
def test_another_word(wrong: object) -> None:
    with pytest.raises(LoadError, match="expected one of auto, winograd, direct"):
        checked(wrong)


def test_a_wrong_word_refuses_the_load(scripted_archive: Path) -> None:
    with pytest.raises(LoadError, match="convolution is 'always', expected one of"):
        Detector.open(scripted_archive, convolution="always")


def test_a_runtime_or_precision_that_cannot() -> None:
    with pytest.raises(LoadError, match=r"TensorFlow runs its own convolutions only; .*OpenVINO"):
        require_replaceable("tensorflow", "fp32", "winograd")
    with pytest.raises(LoadError, match=r"the program is in int8, .*set it to direct"):
        require_replaceable("openvino", "int8", "winograd")
    for choice in CONVOLUTIONS:
        require_replaceable("openvino", "fp32", choice)
    require_replaceable("tensorflow", "fp32", "auto")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"winograd": {"within_bounds": True}}, True),
        ({"winograd": {"within_bounds": False}}, False),
        ({"winograd": None}, False),
        ({}, False),
    ],
)
def test_what_an_export_found(record: dict[str, object], expected: bool) -> None:
    assert is_automatic("openvino", record) is expected
    # Its promise without them is closer than what they hold.
    assert not is_automatic("torchscript", record)
