"""A small trained model, for a thousand requests and for masks of real objects.

It is the Mask R-CNN of examples/shapes; its config names its weights from the repository's root.
"""

from __future__ import annotations

from pathlib import Path

from detectron2.engine import DefaultPredictor

from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config

_CONFIG = Path(__file__).resolve().parents[2] / "examples/shapes/models/mask_rcnn_fpn.yaml"
SMALL_SOURCE = ConfigSource(
    str(_CONFIG),
    overrides=("MODEL.WEIGHTS", str(_CONFIG.with_suffix(".pth"))),
    imports=("examples.shapes.dataset",),
)


def small_config() -> ModelConfig:
    """Its config, with the weights' path whole."""
    return load_config(SMALL_SOURCE)


def small_predictor() -> DefaultPredictor:
    """Eager detectron2 with it."""
    return DefaultPredictor(small_config().cfg)
