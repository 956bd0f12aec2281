"""``Conv2d`` with a function as its activation (detectron2/layers/wrappers.py) cannot be scripted.

Its forward asks ``self.activation is not None``, and TorchScript takes a function for no value.
SemSegFPNHead gives ``F.relu``; here it is the module ``nn.ReLU``.
"""

from __future__ import annotations

from typing import Any

from detectron2.layers import Conv2d
from torch import nn
from torch.nn import functional

from d2serve.export.rewrites.rewrite import SCRIPTING, Rewrite


def _is_function(module: Any) -> bool:
    return module.activation is functional.relu


def _make(module: Any) -> nn.Module:
    module.activation = nn.ReLU()
    conv: nn.Module = module
    return conv


CONV_ACTIVATION = Rewrite(
    name="conv_activation",
    replaces=Conv2d,
    methods=(),
    needed_for=frozenset({SCRIPTING}),
    reason="layers/wrappers.py: Conv2d compares a function with None, which TorchScript does not "
    "take",
    make=_make,
    applies=_is_function,
)
