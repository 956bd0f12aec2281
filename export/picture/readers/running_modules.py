"""Knows which module of a model runs, by hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class Modules:
    """Which module runs, told by hooks."""

    def __init__(self) -> None:
        self._running: list[list[Any]] = [["", 0]]
        self.when_changed: Callable[[], None] = lambda: None

    @property
    def place(self) -> tuple[str, int]:
        """The path of the module that runs, and how many within it have run."""
        path, step = self._running[-1]
        return path, step

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Know of the model's modules what runs within this."""
        hooks = []
        for path, module in model.named_modules():
            if path:
                hooks.append(module.register_forward_pre_hook(self._enter(path)))
                hooks.append(module.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, path: str) -> Callable[..., None]:
        def hook(*_given: Any) -> None:
            self.when_changed()
            self._running.append([path, 0])

        return hook

    def _leave(self, *_given: Any) -> None:
        self.when_changed()
        self._running.pop()
        self._running[-1][1] += 1
