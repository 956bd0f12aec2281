"""Why: a thousand requests, or masks of real objects, need a small trained model.

It is the Mask R-CNN of examples/shapes; its config names its weights from the repository's root.
"""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor

from d2serve.export.config import load_config

_ROOT = Path(__file__).resolve().parent.parent
SMALL_CONFIG = _ROOT / "examples" / "shapes" / "models" / "mask_rcnn_fpn.yaml"
SMALL_IMPORTS = ("examples.shapes.dataset",)
SMALL_OVERRIDES = ("MODEL.WEIGHTS", str(SMALL_CONFIG.with_suffix(".pth")))


def small_config() -> CfgNode:
    """Its config, with the weights' path whole."""
    return load_config(str(SMALL_CONFIG), SMALL_OVERRIDES, SMALL_IMPORTS)


def small_predictor() -> DefaultPredictor:
    """Eager detectron2 with it."""
    return DefaultPredictor(small_config())
