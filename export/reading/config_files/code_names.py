"""Which classes and functions a YAML file may name: the parts that models are built of.

A LazyConfig that training wrote as YAML names the classes of its model. A name that could lead
anywhere would be code again (``os.system`` is a name too), so only the packages below, and those
that the user gave with ``--import``, are ever looked into.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.utils.registry import locate
from torch import nn

_OF_MODELS = (
    "detectron2.data.transforms",
    "detectron2.layers",
    "detectron2.modeling",
    "detectron2.projects",
    "detectron2.structures",
    "fvcore.nn",
    "torch._C._nn",  # torch.nn.functional's own, such as gelu
    "torch.nn",
)
# Of these only layers: their functions fetch and load files.
_LAYERS_ONLY = ("timm", "torchvision")
_OF_TORCH = ("torch.device", "torch.Size")


@dataclass(frozen=True)
class CodeName:
    """The name of code that is not looked up; harmless where nothing asks for it."""

    name: str
    line: int
    """In the file that has it."""

    def __repr__(self) -> str:
        return self.name


def resolve(name: str, own_packages: frozenset[str], line: int = 0) -> Any:
    """What a dotted name leads to, or a ``CodeName`` where it may not be looked up.

    Args:
        name: as ``locate`` of detectron2 takes it.
        own_packages: first parts of the modules that the user imported, which may be named freely.
        line: where it stands.
    """
    unknown = CodeName(name, line)
    inside = any(_is_in(name, each) for each in (*_OF_MODELS, *_LAYERS_ONLY, *own_packages))
    dtype = getattr(torch, name[len("torch.") :], None) if name.startswith("torch.") else None
    if isinstance(dtype, torch.dtype):
        return dtype
    if not inside and name not in _OF_TORCH:
        return unknown
    try:
        found = locate(name)
    except Exception:  # of the import of a module that is not installed, or of a name in none
        return unknown
    return found if _is_harmless(found, name, own_packages) else unknown


def _is_harmless(found: Any, name: str, own_packages: frozenset[str]) -> bool:
    if name in _OF_TORCH or name.partition(".")[0] in own_packages:
        return found is not None
    # Modules re-export: `detectron2.layers.wrappers.os` leads out of detectron2.
    if not callable(found):
        return False
    home = str(getattr(found, "__module__", ""))
    if isinstance(found, type) and issubclass(found, nn.Module):
        return any(_is_in(home, each) for each in (*_OF_MODELS, *_LAYERS_ONLY, *own_packages))
    return any(_is_in(home, each) for each in (*_OF_MODELS, *own_packages))


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")
