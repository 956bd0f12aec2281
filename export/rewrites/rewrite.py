"""What a rewrite is: an equivalent that takes the place of a module that cannot be exported.

It is found by the type of a module, and applied to a copy that shares the user's weights. It is
refused where the user's subclass overrides what it would replace.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from d2serve.export.errors import UnsupportedFamily, place_of
from d2serve.export.rewrites.own_forwards import drop_checkpointing, own_method

# The ways to a program; rewrites for ONNX and torch.export come on top of tracing's.
from d2serve.handlers.spec.runtimes import ONNX as ONNX
from d2serve.handlers.spec.runtimes import SCRIPTING as SCRIPTING
from d2serve.handlers.spec.runtimes import TRACING as TRACING


@dataclass(frozen=True)
class Rewrite:
    """One equivalent module for one upstream construct."""

    name: str
    """For people and for the spec, e.g. ``"cascade_roi_heads"``."""
    replaces: type[nn.Module]
    """detectron2's class; subclasses of it are replaced as well."""
    methods: tuple[str, ...]
    """What the equivalent stands for: a subclass that overrides one of these is refused."""
    needed_for: frozenset[str]
    """Of TRACING, SCRIPTING, ONNX."""
    reason: str
    """Upstream's file and construct that fails, and why; one sentence, for the doctor."""
    make: Callable[[nn.Module], nn.Module]
    """The equivalent of a module, on its very weights."""
    applies: Callable[[nn.Module], bool] = lambda _module: True
    """Of modules of that class, those that need it."""

    @property
    def is_by_name(self) -> bool:
        """Whether it is of a project, whose copies are known by their names alone."""
        return self.replaces is nn.Module


def overridden(module: nn.Module, rewrite: Rewrite) -> str | None:
    """The first method that a rewrite replaces and the module or its class overrides, or None."""
    for name in rewrite.methods:
        changed = getattr(type(module), name) is not getattr(rewrite.replaces, name)
        if changed or own_method(module, name) is not None:
            return f"{type(module).__module__}.{type(module).__qualname__}.{name}"
    return None


def applicable(
    model: nn.Module, way: str, rewrites: Sequence[Rewrite]
) -> list[tuple[str, nn.Module, Rewrite]]:
    """Path, module and rewrite of everything in a model that one way of export needs rewritten."""
    return [
        (path, module, rewrite)
        for path, module in model.named_modules()
        for rewrite in rewrites
        if way in rewrite.needed_for
        and isinstance(module, rewrite.replaces)
        and rewrite.applies(module)
    ]


def rewritten(
    model: nn.Module, way: str, rewrites: Sequence[Rewrite]
) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy of a model in which what cannot be exported is replaced.

    Args:
        model: detectron2's; it is left as it is, and shares its weights with the copy.
        way: TRACING, SCRIPTING or ONNX.
        rewrites: those to choose from.

    Returns:
        The copy, and the names of what was rewritten in it.

    Raises:
        UnsupportedFamily: a subclass overrides what would be replaced; the message names it.
    """
    for path, module, rewrite in applicable(model, way, rewrites):
        method = overridden(module, rewrite)
        if method is not None:
            name = method.rpartition(".")[2]
            place = place_of(own_method(module, name) or getattr(type(module), name))
            raise UnsupportedFamily(
                f"{method} ({path or 'the model'}, {place}) overrides what the export replaces "
                f"({rewrite.name}: {rewrite.reason}). Its answers would be lost. "
                "Put the change into a method that is not replaced "
                f"(replaced are: {', '.join(rewrite.methods)}), or try another --export-method."
            )
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    changed = copy.deepcopy(model, shared)
    drop_checkpointing(changed)
    done: list[str] = []
    # Inner modules first: an outer equivalent is made of what its module holds by then.
    for path, _module, rewrite in reversed(applicable(changed, way, rewrites)):
        made = rewrite.make(changed.get_submodule(path)).train(changed.training)
        if path:
            parent, _, leaf = path.rpartition(".")
            setattr(changed.get_submodule(parent), leaf, made)
        else:
            changed = made
        done.append(rewrite.name)
    return changed, tuple(dict.fromkeys(reversed(done)))
