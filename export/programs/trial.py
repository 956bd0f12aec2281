"""Runs a model on noise with the weights it was built with, to see what its author's code answers.

The doctor has neither weights nor an image. What a model answers, by name, type and shape, does not
depend on them as a rule; the export looks again at what the real model answers to a real image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from d2serve.export.errors import UnsupportedFamily, one_line
from d2serve.export.programs.carrying import carried
from d2serve.export.programs.torchscript_errors import where_in_user_code
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.family import Family
from d2serve.export.reading.samples import Pixels
from d2serve.export.rewrites.stand_ins import runnable

_KNOWN = ("detectron2", "d2serve", "torch", "torchvision", "fvcore", "timm")
_PROJECTS = "detectron2.projects."
# (height, width) in pixels.
_SIZES = ((128, 160), (160, 96))


def tried(model: nn.Module, family: Family, config: ModelConfig) -> Family:
    """A family with all that its model answers; as it is where no code but detectron2's runs.

    Args:
        model: as it was built, in evaluation mode.
        family: what it is.
        config: the model's.

    Raises:
        UnsupportedFamily: something that the model answers would not be served, or it does not run.
    """
    if not any(map(_is_of_others, model.modules())):
        return family
    eager, _notes = runnable(model, config.device)

    def predict(image: Pixels) -> Mapping[str, Any]:
        try:
            with torch.no_grad():
                answer: Mapping[str, Any] = eager([_inputs(image)])[0]
        except Exception as error:  # of detectron2's code, or of the model's author
            height, width = image.shape[:2]
            raise UnsupportedFamily(
                f"The model itself stops in eager detectron2, on an image of {width}x{height} "
                f"pixels: {where_in_user_code(error)}{type(error).__name__}: {one_line(error)}. "
                "Nothing can be exported before DefaultPredictor answers an image."
            ) from error
        return answer

    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), np.uint8) for size in _SIZES]
    return carried(model, family, predict, images, _inputs(images[0]))


def _inputs(image: Pixels) -> dict[str, Any]:
    tensor = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))
    # As if it had been resized, so that what depends on the size as sent is seen to.
    return {"image": tensor, "height": image.shape[0] * 5 // 4, "width": image.shape[1] * 5 // 4}


def _is_of_others(module: nn.Module) -> bool:
    where = type(module).__module__
    return where.startswith(_PROJECTS) or where.split(".")[0] not in _KNOWN
