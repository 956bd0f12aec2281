"""Declares the config keys of imported projects, in both ways in which projects declare them.

Those of detectron2 have a function ``add_..._config(cfg)``. Others, CenterMask2 and AdelaiDet among
them, have a ``get_cfg()`` of their own, whose defaults are the ones that were trained with.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import detectron2.config
from detectron2.config import CfgNode

from d2serve.export.errors import ConfigError, one_line

_ADDS_KEYS = re.compile(r"add_\w*(?:config|cfg)")
_OWN_CONFIG = "get_cfg"


def config_with_keys_of(modules: Sequence[ModuleType]) -> CfgNode:
    """detectron2's default config, with the keys and defaults of these modules.

    Raises:
        ConfigError: a function of a module fails.
    """
    modules = [each for module in modules for each in _with_config(module)]
    cfg = detectron2.config.get_cfg()
    for module in modules:
        own = getattr(module, _OWN_CONFIG, None)
        if own is not None and own is not detectron2.config.get_cfg and _needs(own, 0):
            made = _call(module, _OWN_CONFIG, own)
            if isinstance(made, dict):
                _fill(cfg, made)
    for module in modules:
        for name, function in vars(module).items():
            if _ADDS_KEYS.fullmatch(name) and _needs(function, 1):
                _call(module, name, function, cfg)
    return cfg


def _with_config(module: ModuleType) -> list[ModuleType]:
    """A module, and where it is a package its ``config``, in which projects declare their keys."""
    name = f"{module.__name__}.config"
    if not hasattr(module, "__path__") or importlib.util.find_spec(name) is None:
        return [module]
    try:
        return [module, importlib.import_module(name)]
    except Exception:  # whoever needs its keys is told that they are not known
        return [module]


def _needs(function: Any, count: int) -> bool:
    """Whether a function can be called with so many arguments."""
    if not callable(function) or isinstance(function, type):
        return False
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def _call(module: ModuleType, name: str, function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:  # it is the user's own
        raise ConfigError(
            f"--import {module.__name__}: its {name} fails ({type(error).__name__}: "
            f"{one_line(error)}). Expected a function that declares config keys, as detectron2's "
            "projects have."
        ) from error


def _fill(cfg: CfgNode, own: dict[str, Any]) -> None:
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(cfg.get(key), CfgNode):
            _fill(cfg[key], value)
        elif isinstance(value, dict):
            cfg[key] = CfgNode()
            _fill(cfg[key], value)
        else:
            cfg[key] = value
