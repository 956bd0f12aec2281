"""Imports detectron2's project Panoptic-DeepLab, also where ``panopticapi`` is not installed.

The project needs it for its data loader (projects/panoptic_deeplab/dataset_mapper.py). The package
registry has none that fits, and an export loads no training data.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_PACKAGE = "panopticapi"


def import_project() -> ModuleType:
    """``detectron2.projects.panoptic_deeplab``; ImportError where detectron2 is without it."""
    with _offering_panopticapi():
        return import_module("detectron2.projects.panoptic_deeplab")


@contextmanager
def _offering_panopticapi() -> Iterator[None]:
    if find_spec(_PACKAGE) is not None:
        yield
        return
    package, utils = ModuleType(_PACKAGE), ModuleType(f"{_PACKAGE}.utils")
    vars(utils)["rgb2id"] = _id_of_colour
    offered = {package.__name__: package, utils.__name__: utils}
    sys.modules |= offered
    try:
        yield
    finally:
        for name in offered:
            del sys.modules[name]


def _id_of_colour(colour: Any) -> Any:
    """COCO's panoptic format: of (..., 3) uint8 the segment's id in base 256, the lowest first."""
    wide = colour.astype(int)
    return wide[..., 0] + 256 * wide[..., 1] + 256**2 * wide[..., 2]
