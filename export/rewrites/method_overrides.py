"""Puts methods in front of a module's own, which makes an equivalent of the user's own module.

It keeps every weight, attribute and method that is not replaced, those of a subclass included.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import nn


def override_methods(methods: type) -> Callable[[nn.Module], nn.Module]:
    """For ``Rewrite.make``: puts a class's methods in front of those of a module's own class.

    Args:
        methods: a class without state; its annotations count as the module's, so that
            ``mask_on: Final[bool]`` makes that attribute a constant to TorchScript.
    """

    def make(module: nn.Module) -> nn.Module:
        own = type(module)
        annotations: dict[str, object] = {}
        for base in reversed((methods, *own.__mro__)):
            annotations.update(inspect.get_annotations(base))
        # The class's own module, since TorchScript resolves names there.
        module.__class__ = type(
            f"Exported{own.__name__}",
            (methods, own),
            {"__annotations__": annotations, "__module__": own.__module__},
        )
        return module

    return make
