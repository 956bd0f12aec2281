"""What detectron2's ViT imports from timm, where timm is not installed."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor, nn


class _Mlp(nn.Module):
    """As timm's, with the arguments that detectron2 gives."""

    def __init__(self, in_features: int, hidden_features: int, act_layer: Any) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc2(self.act(self.fc1(x)))
        return found


class _DropPath(nn.Identity):
    """As timm's, outside of training."""


@pytest.fixture(scope="module", autouse=True)
def _something_for_timm() -> Iterator[None]:
    if importlib.util.find_spec("timm") is not None:
        yield
        return
    names = ("timm", "timm.models", "timm.models.layers")
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[names[-1]]).update(Mlp=_Mlp, DropPath=_DropPath)
    yield
    for name in names:
        del sys.modules[name]
