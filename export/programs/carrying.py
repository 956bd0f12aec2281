"""Decides how a program carries what a model answers beyond detectron2's own, or refuses it.

An equivalent of detectron2's ``forward`` (rewrites/endings.py) carries what is set inside it. What
a subclass's own ``forward`` or ``inference`` adds is carried by that method itself
(rewrites/own_forward.py), which a trace follows and TorchScript does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from d2serve.export.errors import ExportError, UnsupportedFamily, one_line, place_of
from d2serve.export.programs.scripting import types_of
from d2serve.export.programs.torchscript_errors import where_in_user_code
from d2serve.export.reading.families import Family
from d2serve.export.reading.own_outputs import shown, with_own_outputs
from d2serve.export.reading.samples import Pixels
from d2serve.export.rewrites.registry import exportable
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING

_ENDINGS = ("forward", "inference", "_postprocess", "forward_inference")


def carried(
    model: nn.Module,
    family: Family,
    predict: Callable[[Pixels], Mapping[str, Any]],
    images: Sequence[Pixels],
    inputs: Mapping[str, Any],
) -> Family:
    """A family with all that its model answers, and the way in which a program carries it.

    Args:
        model: detectron2's, in evaluation mode.
        family: what it is.
        predict: eager detectron2's dict for an RGB image.
        images: several, with objects and without. Where the model answers nothing of its own to the
            first, the others are not looked at.
        inputs: what the model gets of the first, ``image`` (3, H, W) float32 at least.

    Raises:
        UnsupportedFamily: something that the model answers would not be served.
    """
    answers = [_eager_answer(predict, images[0])]
    if not with_own_outputs(family, answers).extras:
        return family
    answers += [_eager_answer(predict, image) for image in images[1:]]
    family = with_own_outputs(family, answers)
    reasons = []
    for own_forward in (False, True):
        reason = _why_not(model, family, inputs, own_forward)
        if reason is None:
            return replace(family, own_forward=own_forward)
        reasons.append(reason)
    raise UnsupportedFamily(
        f"The model answers more than detectron2's own fields, which the program would lose: "
        f"{reasons[-1]}. Set fields of Instances within roi_heads, and keys of the answer in "
        "`inference` or `forward`, as tensors that are computed from the image alone."
    )


def why_not_scripted(model: nn.Module, family: Family, method: str) -> str | None:
    """Why scripting would lose what the model answers, and what to do; None where it does not.

    Args:
        model: detectron2's.
        family: of ``carried``.
        method: of export.
    """
    if method != SCRIPTING:
        return None
    if family.own_forward:
        names = " and ".join(shown(each.per, each.name) for each in family.extras)
        return (
            f"The model answers {names}, which {_ending_of(model)} adds where detectron2's "
            "postprocessing begins, and TorchScript does not take that. Use --export-method "
            "tracing."
        )
    try:
        types_of(family.extras)
    except UnsupportedFamily as error:
        return str(error)
    return None


def _eager_answer(
    predict: Callable[[Pixels], Mapping[str, Any]], image: Pixels
) -> Mapping[str, Any]:
    try:
        return predict(image)
    except ExportError:
        raise
    except Exception as error:  # of detectron2's code, or of the model's author
        height, width = image.shape[:2]
        raise UnsupportedFamily(
            f"The model itself stops in eager detectron2, on an image of {width}x{height} pixels: "
            f"{where_in_user_code(error)}{type(error).__name__}: {one_line(error)}. Nothing can be "
            "exported before DefaultPredictor answers such an image."
        ) from error


def _why_not(
    model: nn.Module, family: Family, inputs: Mapping[str, Any], own_forward: bool
) -> str | None:
    try:
        changed, _names = exportable(model, TRACING, own_forward)
        with torch.no_grad():
            answer = changed([{"image": inputs["image"]}])[0]
    except UnsupportedFamily as error:
        return str(error)
    except Exception as error:  # of the author's own code, which misses what is replaced
        return f"{_ending_of(model)} stops ({type(error).__name__}: {one_line(error)})"
    lost = [each for each in family.extras if each.output not in answer]
    return None if not lost else ", ".join(shown(each.per, each.name) for each in lost)


def _ending_of(model: nn.Module) -> str:
    """The method of the author's own in which the answer is made, and where it is."""
    for name in _ENDINGS:
        method = getattr(type(model), name, None)
        if method is not None and not method.__module__.startswith("detectron2."):
            return f"{type(model).__qualname__}.{name} ({place_of(method)})"
    return type(model).__qualname__
