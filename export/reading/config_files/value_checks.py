"""Checks the values of a YAML config that detectron2 takes as they are, and then fails on late."""

from __future__ import annotations

import math
from typing import Any

from detectron2.config import CfgNode

from d2serve.export.errors import ConfigError

_HEADS = ("ROI_HEADS", "RETINANET", "SEM_SEG_HEAD")


def check_values(cfg: CfgNode) -> None:
    """Make sure that names are texts, and that sizes, numbers of classes and the pixels' mean and
    deviation make sense. yacs lets any value be null.

    Raises:
        ConfigError: naming the key, what was got and what to give.
    """
    texts = {
        "MODEL.META_ARCHITECTURE": cfg.MODEL.META_ARCHITECTURE,
        "MODEL.ROI_HEADS.NAME": cfg.MODEL.ROI_HEADS.NAME,
        "MODEL.PROPOSAL_GENERATOR.NAME": cfg.MODEL.PROPOSAL_GENERATOR.NAME,
        "MODEL.DEVICE": cfg.MODEL.DEVICE,
        "INPUT.FORMAT": cfg.INPUT.FORMAT,
    }
    for key, value in texts.items():
        if not isinstance(value, str):
            raise ConfigError(f"{key} is {value!r}, expected a name. Give that of training.")
    for key, names in (("TRAIN", cfg.DATASETS.TRAIN), ("TEST", cfg.DATASETS.TEST)):
        wrong = [name for name in names or () if not isinstance(name, str)]
        if wrong:
            raise ConfigError(
                f"DATASETS.{key} has {wrong[0]!r}, expected the names of data sets that are "
                "registered: a list of texts."
            )
    for head in _HEADS:
        _check_number(f"MODEL.{head}.NUM_CLASSES", cfg.MODEL[head].NUM_CLASSES, 1)
    _check_number("INPUT.MIN_SIZE_TEST", cfg.INPUT.MIN_SIZE_TEST, 0)
    _check_number("INPUT.MAX_SIZE_TEST", cfg.INPUT.MAX_SIZE_TEST, 1)
    mean, deviation = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    for key, values in (("MODEL.PIXEL_MEAN", mean), ("MODEL.PIXEL_STD", deviation)):
        if not values or not all(map(_is_number, values)):
            raise ConfigError(f"{key} is {values}, expected a number for each channel of an image.")
    if len(mean) != len(deviation):
        raise ConfigError(
            f"MODEL.PIXEL_MEAN has {len(mean)} values and MODEL.PIXEL_STD {len(deviation)}, "
            "expected one each for every channel of an image."
        )
    if any(each <= 0 for each in deviation):
        raise ConfigError(
            f"MODEL.PIXEL_STD is {deviation}, expected values above 0: every pixel is divided by "
            "it. Give that of training, or 1.0 where it was not divided."
        )


def _check_number(key: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ConfigError(
            f"{key} is {value!r}, expected a whole number of {least} or more. Give that of "
            f"training: {key} NUMBER"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
