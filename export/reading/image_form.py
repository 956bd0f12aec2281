"""Finds out how many channels a model's images have, and what they are, before any work.

``PIXEL_MEAN`` says it, and ``INPUT.FORMAT`` where that is of grey or RGBA images. But a mean of one
value goes for all channels, and a LazyConfig's backbone need not know the mean. So it is looked at
what arrives at the model's first convolution: where that takes another number, detectron2 itself
fails.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.reading.config import ModelConfig
from d2serve.handlers.spec.image_form import BANDS, FORMATS, GREY, RGB, RGBA, ImageForm

READABLE = tuple(name for name in FORMATS if name != BANDS)
"""What a config's image format may be: those that ``read_image`` gives and a file can hold."""

_FIXED = {name: channels for name, channels in FORMATS.items() if name in (GREY, RGBA)}
_SIDE = 64  # pixels, of an image that is nothing but tried


class _Reached(Exception):
    """The first convolution was called, with so many channels."""

    def __init__(self, name: str, got: int, takes: int) -> None:
        super().__init__(name)
        self.name, self.got, self.takes = name, got, takes


def image_form_of(model: nn.Module, config: ModelConfig) -> ImageForm:
    """The form of the images that a model takes.

    Args:
        model: detectron2's, in evaluation mode.
        config: the model's.

    Raises:
        UnsupportedFamily: the config's numbers of channels contradict each other.
    """
    normalised = [_length(model, name) for name in ("pixel_mean", "pixel_std")]
    means = max((n for n in normalised if n is not None), default=_of_config(config))
    fixed = _FIXED.get(config.image_format)
    channels = means if fixed is None else fixed
    if not _fit(channels, means, *normalised):
        raise _mismatch_error(config, channels, means)
    reached = _first_convolution(model, channels, config.device)
    if reached is not None and reached.got != reached.takes:
        if fixed is not None or not _fit(reached.takes, *normalised):
            raise _mismatch_error(config, reached.got, reached.takes, reached.name)
        channels = reached.takes  # a mean of one value goes for all channels
    if channels == FORMATS[RGB]:
        return ImageForm(config.image_format, channels)
    if fixed is not None:
        return ImageForm(config.image_format, fixed)
    return ImageForm(GREY if channels == 1 else BANDS, channels)


def _length(model: nn.Module, name: str) -> int | None:
    values = getattr(model, name, None)
    return values.numel() if isinstance(values, torch.Tensor) else None


def _of_config(config: ModelConfig) -> int:
    return 3 if config.cfg is None else len(config.cfg.MODEL.PIXEL_MEAN)


def _fit(*sizes: int | None) -> bool:
    """Whether arrays of so many channels can be added to each other."""
    return len({size for size in sizes if size not in (1, None)}) <= 1


def _first_convolution(model: nn.Module, channels: int, device: str) -> _Reached | None:
    """What arrives at the first convolution; None where there is none, or something else fails."""

    def stop(module: Any, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], torch.Tensor):
            raise _Reached(names[module], inputs[0].shape[1], module.in_channels)

    names = {
        module: name
        for name, module in model.named_modules()
        if isinstance(getattr(module, "in_channels", None), int)
        and isinstance(getattr(module, "weight", None), torch.Tensor)
    }
    hooks = [module.register_forward_pre_hook(stop) for module in names]
    image = torch.zeros(channels, _SIDE, _SIDE, device=device)
    try:
        with torch.no_grad():
            model([{"image": image, "height": _SIDE, "width": _SIDE}])
    except _Reached as reached:
        return reached
    # Whatever a model of somebody's own raises: what it is will be seen where it matters.
    except Exception:
        return None
    finally:
        for hook in hooks:
            hook.remove()
    return None


def _mismatch_error(
    config: ModelConfig, got: int, expected: int, convolution: str | None = None
) -> UnsupportedFamily:
    mean = "MODEL.PIXEL_MEAN" if config.cfg is not None else "pixel_mean"
    format_of = "INPUT.FORMAT" if config.cfg is not None else "the mapper's image_format"
    if convolution is not None:
        what = (
            f"{convolution}, the model's first convolution, takes {expected} channels and gets "
            f"{got}, by {mean} and {format_of} ({config.image_format})"
        )
    else:
        what = (
            f"{format_of} is {config.image_format}, of {got} channels, and {mean} and its "
            f"deviation have {expected} values"
        )
    return UnsupportedFamily(
        f"{what}: detectron2 itself fails on this model. Give {mean} and its deviation one value "
        f"for each channel that the model was trained with, and the format of its images."
    )
