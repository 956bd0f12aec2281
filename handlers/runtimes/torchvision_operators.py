"""Registers torchvision's operators with torch, without importing torchvision.

Programs call ``torchvision::nms``, ``torchvision::roi_align`` and the like, which are in one
library of compiled code. ``import torchvision`` loads it, and with it its models, data sets and
transforms: about as long as torch itself takes to import, and 170 MB in each worker.
"""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import torch

# As torchvision has named it, the newest first.
_LIBRARIES = ("_C_stable", "_C")


def register() -> None:
    """Make torchvision's operators known to TorchScript; by importing it where its library is not
    where it was found so far.

    Raises:
        ImportError: torchvision is not installed.
    """
    for library in _libraries():
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:  # built for another torch: torchvision's own words about it are better
            break
        if hasattr(torch.ops.torchvision, "nms"):
            return
    import torchvision  # noqa: F401


def _libraries() -> list[Path]:
    found = find_spec("torchvision")
    folders = [] if found is None else found.submodule_search_locations or []
    paths = (
        Path(folder, f"{name}{suffix}")
        for folder in folders
        for name in _LIBRARIES
        for suffix in EXTENSION_SUFFIXES
    )
    return [path for path in paths if path.is_file()]
