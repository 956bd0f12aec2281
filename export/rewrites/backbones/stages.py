"""How the equivalents of hierarchical transformers keep what TorchScript cannot look up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn


def with_norms_in_order(
    module: Any, names: Sequence[str], norms: Sequence[str | None]
) -> nn.Module:
    """Puts the norms of a backbone's outputs into one list, since TorchScript has no ``getattr``.

    Args:
        module: the backbone. It gets ``names`` and ``norms``, one of each for every stage or block.
        names: of the outputs, empty where there is none.
        norms: what the module calls the norm of each output.
    """
    module.names = list(names)
    found = [nn.Identity() if norm is None else getattr(module, norm) for norm in norms]
    for norm in norms:
        if norm is not None:
            delattr(module, norm)
    module.norms = nn.ModuleList(found)
    result: nn.Module = module
    return result


def in_evaluation(make: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    """For ``Rewrite.make`` of a block: without timm's DropPath.

    It does nothing outside of training, and TorchScript cannot read it.
    """

    def made(module: nn.Module) -> nn.Module:
        if type(module.drop_path).__name__ == "DropPath":  # timm is optional
            module.drop_path = nn.Identity()
        return make(module)

    return made
