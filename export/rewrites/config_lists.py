"""Models of LazyConfigs hold omegaconf's lists, which TorchScript does not know.

``instantiate`` (config/instantiate.py) hands lists of a config to constructors as ``ListConfig``,
and modules keep them: ``strides`` of DefaultAnchorGenerator, ``in_features`` of RPN. A model of a
YAML config has plain lists there.
"""

from __future__ import annotations

from typing import Any

from omegaconf import ListConfig
from torch import nn

from d2serve.export.rewrites.rewrite import SCRIPTING, Rewrite


def _is_config_list(value: object) -> bool:
    return isinstance(value, ListConfig) or (
        isinstance(value, (list, tuple)) and any(map(_is_config_list, value))
    )


def _holds_config_lists(module: nn.Module) -> bool:
    return any(map(_is_config_list, vars(module).values()))


def _plain(value: Any) -> Any:
    if isinstance(value, (ListConfig, list)):
        return [_plain(item) for item in value]
    if type(value) is tuple:
        return tuple(_plain(item) for item in value)
    return value


def with_plain_lists(module: nn.Module) -> nn.Module:
    """The module, its omegaconf lists made Python's."""
    for name, value in vars(module).items():
        if _is_config_list(value):
            setattr(module, name, _plain(value))
    return module


CONFIG_LISTS = Rewrite(
    name="config_lists",
    replaces=nn.Module,
    methods=(),  # attributes only
    needed_for=frozenset({SCRIPTING}),
    reason=(
        "config/instantiate.py: instantiate gives modules omegaconf's ListConfig, which is no type "
        "of TorchScript's"
    ),
    make=with_plain_lists,
    applies=_holds_config_lists,
)
