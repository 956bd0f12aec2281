"""Why: what no rewrite makes exportable is known beforehand, with the line that stops it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Limit:
    """A class of module that one way of export cannot take."""

    module: type[nn.Module]
    ways: frozenset[str]
    """Of ``"tracing"``, ``"scripting"``, ``"onnxruntime"``, ``"openvino"``."""
    stops_at: Callable[..., object]
    """The function upstream that stops it."""
    reason: str
    advice: str


LIMITS: tuple[Limit, ...] = ()


def limits_of(model: nn.Module, ways: Sequence[str]) -> list[tuple[str, Limit]]:
    """Path and limit of every module in a model that one of the ways cannot take."""
    return [
        (path, limit)
        for path, module in model.named_modules()
        for limit in LIMITS
        if isinstance(module, limit.module) and limit.ways.intersection(ways)
    ]
