"""Random weights with which a model finds something.

Fresh from its initialisation it finds nothing, or what is worth nothing.

Deep sums grow beyond all bounds, heads answer nearly the same everywhere, deformable convolutions
do not deform. One forward settles that, layer by layer: normalisations take the statistics of what
they get, as training would have given them, and the layers without one are scaled to a spread.
What a residual branch adds is kept small: else a network of random weights is chaotic, and blows
the last digit of a sum up into pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

# Standard deviation of what a layer answers, by parts of its path; the first that fits counts.
_SPREADS = (
    ("box_predictor.cls_score", 4.0),  # before a softmax: few classes stand out
    ("cls_score", 2.0),  # before a sigmoid, on top of a bias of -4.6
    ("objectness_logits", 3.0),
    ("anchor_deltas", 0.3),
    ("bbox_pred", 0.5),
    ("predictor", 3.0),  # of masks and of labels
    ("conv2_offset", 0.5),  # pixels, of a deformable convolution
)
_ELSEWHERE = 1.0
# Of what a residual branch adds.
_BRANCH = 0.2
_SCALED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def settle(model: nn.Module, image: torch.Tensor) -> None:
    """Make a model with random weights find things that differ, in place.

    Args:
        model: detectron2's, in evaluation mode.
        image: (3, H, W) float32, on which it is settled.
    """
    torch.manual_seed(1)  # for layers that start at zero
    with torch.no_grad(), _settling(model):
        model([{"image": image, "height": image.shape[1], "width": image.shape[2]}])


@contextmanager
def _settling(model: nn.Module) -> Iterator[None]:
    hooks = []
    for path, module in model.named_modules():
        if _ends_branch(path, module):
            weighted: Any = module
            with torch.no_grad():
                weighted.weight.fill_(_BRANCH)
        if hasattr(module, "running_mean") and hasattr(module, "running_var"):
            hooks.append(module.register_forward_pre_hook(_Statistics()))
        elif isinstance(module, _SCALED) and getattr(module, "norm", None) is None:
            hooks.append(module.register_forward_hook(_Spread(_spread_of(path))))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _ends_branch(path: str, module: nn.Module) -> bool:
    """The last normalisation of a bottleneck of a ResNet, or of a RegNet's block."""
    return path.endswith("conv3.norm") or bool(getattr(module, "final_bn", False))


def _spread_of(path: str) -> float:
    # The stages of a cascade are numbered.
    plain = ".".join(part for part in path.split(".") if not part.isdigit())
    return next((spread for part, spread in _SPREADS if part in plain), _ELSEWHERE)


class _Once:
    """A layer that is shared between levels is settled on the first."""

    def __init__(self) -> None:
        self.done = False


class _Statistics(_Once):
    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        (features,) = args
        if self.done or not features.numel():
            return
        self.done = True
        norm: Any = module
        norm.running_mean.copy_(features.mean(dim=(0, 2, 3)))
        norm.running_var.copy_(features.var(dim=(0, 2, 3), unbiased=False) + 1e-3)


class _Spread(_Once):
    def __init__(self, spread: float) -> None:
        super().__init__()
        self._spread = spread

    def __call__(self, module: nn.Module, args: tuple[Any, ...], answered: torch.Tensor) -> Any:
        if self.done or answered.numel() < 2:
            return None
        self.done = True
        layer: Any = module
        if not answered.std() > 0:
            layer.weight.normal_()
            answered = layer.forward(*args)
        layer.weight.mul_(self._spread / answered.std())
        return layer.forward(*args)
