"""Lets Panoptic-DeepLab be imported where ``panopticapi`` is not installed.

detectron2's project imports it for its data loader (projects/panoptic_deeplab/dataset_mapper.py).
The package registry has none that fits, and an export loads no training data.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_PACKAGE = "panopticapi"


def stand_in_for_panopticapi() -> None:
    """Offer what the project imports of panopticapi, unless that is installed."""
    if _PACKAGE in sys.modules or find_spec(_PACKAGE) is not None:
        return
    package, utils = ModuleType(_PACKAGE), ModuleType(f"{_PACKAGE}.utils")
    vars(utils)["rgb2id"] = _id_of_colour
    vars(package)["utils"] = utils
    sys.modules |= {package.__name__: package, utils.__name__: utils}


def _id_of_colour(colour: Any) -> Any:
    """COCO's panoptic format: (..., 3) uint8, a segment's id in base 256, the lowest first."""
    wide = colour.astype(int)
    return wide[..., 0] + 256 * wide[..., 1] + 256**2 * wide[..., 2]
