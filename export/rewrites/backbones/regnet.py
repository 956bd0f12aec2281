"""RegNet (detectron2/modeling/backbone/regnet.py) cannot be scripted.

``ResBasicBlock`` and ``ResBottleneckBlock`` ask ``if self.proj``, and TorchScript takes a module
for no truth value. ``AnyNet`` keeps its stages in ``stages_and_names``, a list of tuples, which is
no type of TorchScript's.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any, Dict  # noqa: UP035  # TorchScript reads these

from detectron2.modeling.backbone.regnet import AnyNet, ResBasicBlock, ResBottleneckBlock
from torch import Tensor, nn

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, Rewrite

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined, no-any-return"


class _Scriptable:
    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.proj is not None:
            shortcut = self.bn(self.proj(x))
        return self.af(shortcut + self.f(x))


class _Walkable:
    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        outputs: Dict[str, Tensor] = {}
        x = self.stem(x)
        if "stem" in self._out_features:
            outputs["stem"] = x
        for index, stage in enumerate(self.stages):
            x = stage(x)
            name = self.stage_names[index]
            if name in self._out_features:
                outputs[name] = x
        return outputs


def _walkable(module: Any) -> nn.Module:
    stages = module.__dict__.pop("stages_and_names")
    for _stage, name in stages:  # the same modules, under one name instead of two
        delattr(module, name)
    module.stages = nn.ModuleList(stage for stage, _name in stages)
    module.stage_names = [name for _stage, name in stages]
    return override_methods(_Walkable)(module)


def _rewrite(name: str, replaces: type[nn.Module]) -> Rewrite:
    return Rewrite(
        name=name,
        replaces=replaces,
        methods=("forward",),
        needed_for=frozenset({SCRIPTING}),
        reason=f"modeling/backbone/regnet.py: {replaces.__name__} asks `if self.proj`, and "
        "TorchScript takes a module for no truth value",
        make=override_methods(_Scriptable),
    )


REGNET_BASIC_BLOCK = _rewrite("regnet_basic_block", ResBasicBlock)
REGNET_BOTTLENECK_BLOCK = _rewrite("regnet_bottleneck_block", ResBottleneckBlock)
ANY_NET = Rewrite(
    name="any_net",
    replaces=AnyNet,
    methods=("forward",),
    needed_for=frozenset({SCRIPTING}),
    reason="modeling/backbone/regnet.py: stages_and_names is a list of tuples with modules, which "
    "is no type of TorchScript's",
    make=_walkable,
)
