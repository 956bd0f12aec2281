"""Lets a backbone of another kind learn from the trained one, far faster than from scratch.

The heads that are copied from the first model expect its feature maps. A backbone that learns to
give the same maps is told what is right at every position, while the detection losses alone speak
of a few boxes, and of those only once the heads make sense of the maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.functional import mse_loss

Losses = dict[str, torch.Tensor]


@contextmanager
def imitating(model: nn.Module, teacher: nn.Module, levels: Sequence[str]) -> Iterator[Losses]:
    """Inside, each forward pass of ``model`` leaves a loss in the dict that is given.

    It is the squared distance of its backbone's maps from the teacher's, in the teacher's variance,
    as a mean over ``levels``; with no level there is no loss, and the teacher does nothing.
    """
    losses: Losses = {}
    pupil, master = model.get_submodule("backbone"), teacher.get_submodule("backbone")
    master.eval()

    def compare(
        _module: nn.Module, arguments: tuple[torch.Tensor, ...], own: dict[str, torch.Tensor]
    ) -> None:
        with torch.no_grad():
            wanted = master(arguments[0])
        distances = [
            mse_loss(own[level].float(), wanted[level].float()) / wanted[level].float().var()
            for level in levels
        ]
        losses["loss_imitation"] = torch.stack(distances).mean()

    hooks = [pupil.register_forward_hook(compare)] if levels else []
    try:
        yield losses
    finally:
        for hook in hooks:
            hook.remove()
