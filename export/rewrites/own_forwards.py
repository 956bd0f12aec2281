"""A module with a ``forward`` of its own, beside that of its class.

fairscale's ``checkpoint_wrapper`` (``use_act_checkpoint`` of ViT and MViT) sets one, which saves
memory in training and otherwise calls the class's. It would hide what a rewrite puts in front, and
a copy's still leads to the module that was copied, so copies are made without.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import nn

_CHECKPOINTING = "fairscale.nn.checkpoint."


def own_method(module: nn.Module, name: str) -> Any:
    """What a module itself has under a method's name, other than fairscale's; or None."""
    found = vars(module).get(name)
    return None if _is_checkpointed(found) else found


def drop_checkpointing(model: nn.Module) -> None:
    """Take fairscale's ``forward`` from every module of a copy, which then calls its class's."""
    for module in model.modules():
        if _is_checkpointed(vars(module).get("forward")):
            del module.forward


def _is_checkpointed(found: Any) -> bool:
    return isinstance(found, functools.partial) and found.func.__module__.startswith(_CHECKPOINTING)
