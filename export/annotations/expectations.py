"""What a model answers that annotations can judge: its classes, masks, keypoints and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from d2serve.export.programs.unexportable import labels_of
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.families import Family
from d2serve.handlers.spec.output_names import KEYPOINTS, SEM_SEG


@dataclass(frozen=True)
class Expectations:
    """What annotations must have to judge a model by all that it answers."""

    family: Family
    class_names: tuple[str, ...] | None
    """One each, or None where they are not known."""
    stuff_class_names: tuple[str, ...] | None
    num_labels: int | None
    """Of sem_seg; None where it has none, or does not say."""
    num_keypoints: int | None
    """Of an instance; None where it has none, or does not say."""
    sigmas: tuple[float, ...]
    """TEST.KEYPOINT_OKS_SIGMAS; empty is COCO's own 17."""
    by_yaml: bool
    """Whether the config is YAML, whose keys errors name; otherwise it is a LazyConfig."""


def expectations_of(
    model: nn.Module,
    family: Family,
    config: ModelConfig,
    class_names: Sequence[str] | None,
    stuff_class_names: Sequence[str] | None,
) -> Expectations:
    """What a model that detectron2 built answers.

    Args:
        model: with any weights.
        family: what it is.
        config: of the model.
        class_names, stuff_class_names: of the archive.
    """
    head: Any = getattr(getattr(model, "roi_heads", None), "keypoint_head", None)
    return Expectations(
        family,
        None if class_names is None else tuple(class_names),
        None if stuff_class_names is None else tuple(stuff_class_names),
        labels_of(model) if SEM_SEG in family.outputs else None,
        getattr(head, "num_keypoints", None) if KEYPOINTS in family.outputs else None,
        config.keypoint_oks_sigmas,
        config.cfg is not None,
    )
