"""Takes off the names of tensors what wrappers around a model put before or into them.

DataParallel puts ``module.`` before every name, torch.compile ``_orig_mod.``, Lightning ``model.``
or whatever its attribute is called. Which one it is is found by what is left: the model's own
names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

# Of torch.compile, FSDP and activation checkpointing: they stand anywhere in a name.
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_DEPTH = 5  # parts that may stand before a name


@dataclass(frozen=True)
class Fitted:
    """A set of tensors by names as near to a model's as they come."""

    tensors: dict[str, Any]
    prefix: str
    """What was taken off before each name."""
    found: int
    """How many of the model's names are there."""
    rivals: tuple[str, ...]
    """Other prefixes below which as many of the model's names are found."""


def fitted(tensors: Mapping[str, Any], names: Collection[str], prefix: str | None = None) -> Fitted:
    """Tensors without what stands before their names.

    Args:
        tensors: by the names of a file.
        names: of the model.
        prefix: what stands before the names that are wanted; None finds it.
    """
    wanted = frozenset(names)
    bare = {_unwrapped(name, wanted): tensor for name, tensor in tensors.items()}
    if prefix is not None:
        below = {
            name[len(prefix) :]: each for name, each in bare.items() if name.startswith(prefix)
        }
        return Fitted(below, prefix, len(wanted & below.keys()), ())
    votes: Counter[str] = Counter()
    for name in bare:
        parts = name.split(".")
        for depth in range(min(len(parts), _DEPTH + 1)):
            if ".".join(parts[depth:]) in wanted:
                votes["".join(f"{part}." for part in parts[:depth])] += 1
    if not votes:
        return Fitted(bare, "", 0, ())
    most = max(votes.values())
    best = [each for each, count in votes.items() if count == most]
    if "" in best:
        return Fitted(bare, "", most, ())
    taken = fitted(bare, names, best[0])
    return Fitted(taken.tensors, best[0], most, tuple(best[1:]))


def _unwrapped(name: str, wanted: frozenset[str]) -> str:
    if name in wanted:
        return name
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name
