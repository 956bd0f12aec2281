"""Keeps the versions of modules that ``state_dict()`` writes beside its tensors.

A module whose tensors were named otherwise once looks at its version to tell whether to rename
them: Mask2Former's head takes tensors without one for old ones, and finds none of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

_METADATA = "_metadata"
# What DataParallel puts before every name, of tensors and of modules.
_WRAPPER = "module"


def with_versions(tensors: Mapping[str, Any], content: Mapping[str, Any], key: str) -> Any:
    """Tensors with the versions that their file has for the modules of the same names.

    Args:
        tensors: by name, which may have lost a ``module.``.
        content: of the file.
        key: where in it the tensors stand, with dots; empty for all of it.
    """
    source: Any = content
    for part in key.split(".") if key else ():
        source = source.get(part) if isinstance(source, Mapping) else None
    versions = getattr(source, _METADATA, None)
    if not isinstance(versions, Mapping):
        return tensors
    if not tensors.keys() <= source.keys():
        versions = {
            name.removeprefix(_WRAPPER).removeprefix("."): each for name, each in versions.items()
        }
    kept = OrderedDict(tensors)
    setattr(kept, _METADATA, versions)
    return kept
