"""Runs a model on noise with the weights it was built with, to see what its author's code answers.

The doctor has neither weights nor an image. What a model answers, by name, type and shape, does not
depend on them as a rule; the export looks again at what the real model answers to a real image.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from d2serve.export.errors import UnsupportedFamily, one_line
from d2serve.export.programs.carrying import carried
from d2serve.export.programs.torchscript_errors import where_in_user_code
from d2serve.export.programs.trial import TrialImage, make_small, trial_image
from d2serve.export.reading.family import Family
from d2serve.export.rewrites.stand_ins import runnable

# (height, width) in pixels.
_SIZES = ((128, 160), (192, 96))


def with_what_it_answers(
    model: nn.Module, family: Family, channels: int, device: str, own: Sequence[str]
) -> Family:
    """A family with all that its model answers; as it is where no code but detectron2's runs.

    Args:
        model: as it was built, in evaluation mode.
        family: what it is.
        channels: of its images.
        device: the model's.
        own: paths of the user's own modules.

    Raises:
        UnsupportedFamily: something that the model answers would not be served, or it does not run.
    """
    if not own:
        return family
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    small = copy.deepcopy(model, shared)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make_small(small, channels, own)
        images = [trial_image(channels, size) for size in _SIZES]
    eager, _notes = runnable(small, device)

    def predict(image: TrialImage) -> Mapping[str, Any]:
        try:
            with torch.no_grad():
                answer: Mapping[str, Any] = eager([dict(image)])[0]
        except Exception as error:  # of detectron2's code, or of the model's author
            raise UnsupportedFamily(
                "The model fails before it is exported, on an image of random values with random "
                f"weights: {where_in_user_code(error)}{type(error).__name__}: {one_line(error)}. "
                "Make eager detectron2 answer with it first."
            ) from error
        return answer

    first, *others = images
    return carried(small, family, predict(first), map(predict, others), first)
