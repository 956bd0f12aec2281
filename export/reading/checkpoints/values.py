"""Finds tensors whose values no model can answer with: not numbers, or numbers of another kind.

torch copies integers, complex numbers and NaN into a model's layers without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


def unusable(tensors: Mapping[str, Any], model: nn.Module) -> Iterator[str]:
    """Each tensor of a model that cannot be one of its, in words.

    Args:
        tensors: as they stand in the file, by name.
        model: into which they were loaded.
    """
    learned = {name for name, _parameter in model.named_parameters()}
    for name, own in model.state_dict().items():
        if own.is_floating_point() and own.isnan().any():
            yield f"{name} has values that are no numbers (NaN)"
            continue
        if name in learned and own.is_floating_point() and own.isinf().any():
            yield f"{name} has infinite values"
            continue
        given = tensors.get(name)
        if not isinstance(given, torch.Tensor):
            continue
        if given.is_complex() or (
            name in learned and own.is_floating_point() and not given.is_floating_point()
        ):
            kinds = (str(each.dtype).replace("torch.", "") for each in (given, own))
            yield "{} is of {}, expected {}".format(name, *kinds)
        elif given.layout != torch.strided or given.is_meta:
            yield f"{name} is a {given.layout} tensor on {given.device}, expected its plain values"
