"""Writes a config as text, once everything is merged: the same text for the same model.

Where the weights lie is left out, since that differs from machine to machine; which they are is
known by their own digest.
"""

from __future__ import annotations

import json
import re
from typing import Any

from detectron2.config import CfgNode
from omegaconf import OmegaConf

# Of an object whose repr names where it lies in memory.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def text_of_yaml(cfg: CfgNode) -> str:
    """A YAML config, in the order of its keys."""
    copy = cfg.clone()
    copy.defrost()
    copy.MODEL.WEIGHTS = ""
    text: str = copy.dump()
    return text


def text_of_lazy(config: Any) -> str:
    """A LazyConfig as JSON; classes and functions by their names, interpolations as they stand."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    if isinstance(plain.get("train"), dict):
        plain["train"].pop("init_checkpoint", None)
    return json.dumps(_named(plain), sort_keys=True, indent=1)


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(_named(key)): _named(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "__qualname__"):
        # A class that type() made in a LazyConfig is of no module.
        home = getattr(value, "__module__", None)
        return value.__qualname__ if home is None else f"{home}.{value.__qualname__}"
    return _ADDRESS.sub("", repr(value))
