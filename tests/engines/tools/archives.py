"""Archives of the kinds of models that tools tell apart."""

from __future__ import annotations

from pathlib import Path

from tests.engines.reference import Reference
from tests.exports import Exports

KEYPOINT_NAMES = ("nose", "left eye", "right eye", "left ear", "right ear")
"""For the five that the example model finds."""
_MODELS = {
    "keypoints": ("keypoint_rcnn_fpn", "scripting"),
    "panoptic": ("panoptic_fpn", "scripting"),
    "semantic": ("semantic_fpn", "tracing"),
    "rotated": ("rotated_faster_rcnn_fpn", "scripting"),
    "proposals": ("rpn_fpn", "scripting"),
}


class Archives:
    """``archives("panoptic")`` is the .mar of such a model, exported when first asked for."""

    def __init__(self, exported: Exports, reference: Reference) -> None:
        self._exported = exported
        self._reference = reference

    def __call__(self, kind: str) -> Path:
        """
        Args:
            kind: "masks", "keypoints", "panoptic", "semantic", "rotated" or "proposals".
        """
        if kind == "masks":
            return self._reference.archive
        return self._exported(*_MODELS[kind])
