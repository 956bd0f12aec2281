"""An ``eval`` in a YAML config is read where it is arithmetic, as in detectron2's RetinaNets."""

from __future__ import annotations

import pytest

from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_files.arithmetic import worked_out
from d2serve.export.reading.config_loading import load_config

RETINANET = "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"


def test_detectron2s_own_retinanet_config_is_read() -> None:
    cfg = load_config(ConfigSource("COCO-Detection/retinanet_R_50_FPN_1x.yaml")).cfg
    assert cfg is not None
    expected = [[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in (32, 64, 128, 256, 512)]
    assert expected == cfg.MODEL.ANCHOR_GENERATOR.SIZES
    assert worked_out(RETINANET) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "-3",
        "[1, 2.5]",
        "(1, 2)",
        "2 ** 3 // 3 - 1 + 4 * 2",
        "int(7.9)",
        "[int(x * 0.1 * 640) for x in range(5, 21)]",
        "[x for x in range(20, 4, -3)]",
    ],
)
def test_arithmetic_is_worked_out(expression: str) -> None:
    value = eval(expression)
    assert worked_out(expression) == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "open('x')",
        "[x for x in (1).__class__.__bases__]",
        "x",
        "9**9**9",
        "2**64 * 2**64",
        "[0] * 10**9",
        "[y for x in [1] for y in [2]]",
        "[[y for y in [1]] for x in [1]]",
        "'text' * 9",
        "(" * 500 + "1" + ")" * 500,
        "1" * 2000,
        "1 / 0",
        "lambda: 1",
        "int('7')",
        "int(7, base=8)",
        "range(3)",
        "[x for x in range(10**9)]",
        "[x for x in range(2.5)]",
        "[x for x in range(1, 2, 0)]",
        "[x for x in range(1, 2, 3, 4)]",
        "[x for x in int(3)]",
        "[print(x) for x in range(3)]",
        "[int(y) for x in range(3)]",
        7,
    ],
)
def test_all_else_is_refused(expression: object) -> None:
    with pytest.raises(ValueError, match=r".*"):
        worked_out(expression)
