"""A semantic head that tells nothing apart is refused for every way, before any work."""

from __future__ import annotations

from typing import Any

import pytest
from detectron2.modeling.meta_arch import SemanticSegmentor
from torch import nn

from d2serve.export.programs.unexportable import labels_of, why_unexportable
from d2serve.handlers.spec.runtimes import RUNTIMES


class Head(nn.Module):
    """Ends in a convolution of a channel for each class, as detectron2's semantic heads do."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.predictor = nn.Conv2d(4, classes, 1)


def segmentor(classes: int) -> SemanticSegmentor:
    parts: dict[str, Any] = {"backbone": nn.Identity(), "sem_seg_head": Head(classes)}
    return SemanticSegmentor(**parts, pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3)


@pytest.mark.parametrize("facts", RUNTIMES.values(), ids=lambda facts: facts.name)
def test_one_class_is_always_the_best(facts: Any) -> None:
    assert labels_of(segmentor(1)) == 1
    for method in facts.methods:
        assert "always class 0" in (why_unexportable(segmentor(1), facts, method) or "")
        assert "always class 0" not in (why_unexportable(segmentor(2), facts, method) or "")
