"""Decides how a program carries what a model answers beyond detectron2's own, or refuses it.

An equivalent of detectron2's ``forward`` (rewrites/endings.py) carries what is set inside it. What
a subclass's own ``forward`` or ``inference`` adds is carried by that method itself, and what it
makes of the answer in the size of the image as sent by its own postprocessing in the program
(rewrites/own_models/endings.py): a trace follows both, and TorchScript neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from d2serve.export.errors import UnsupportedFamily, one_line, place_of
from d2serve.export.programs.scripting import types_of
from d2serve.export.reading.family import Family
from d2serve.export.reading.own_outputs import shown, with_own_outputs
from d2serve.export.rewrites.endings import as_tensor
from d2serve.export.rewrites.own_models.endings import INSTANCES
from d2serve.export.rewrites.registry import exportable
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING
from d2serve.handlers.spec.extras import IMAGE, INSTANCE, Extra

_ENDINGS = ("forward", "inference", "_postprocess", "forward_inference")


def carried(
    model: nn.Module,
    family: Family,
    first: Mapping[str, Any],
    others: Iterable[Mapping[str, Any]],
    inputs: Mapping[str, Any],
    method: str | None = None,
) -> Family:
    """A family with all that its model answers, and the way in which a program carries it.

    Args:
        model: detectron2's or the user's own, in evaluation mode.
        family: what it is.
        first: eager detectron2's dict for an image with objects.
        others: those for other images, with objects and without. Where the model answers nothing of
            its own to the first, nobody asks for them.
        inputs: what the model gets of the first: image, height and width.
        method: of export, which has to carry it all; None asks for no method yet.

    Raises:
        UnsupportedFamily: something that the model answers would not be served.
    """
    if not with_own_outputs(family, [first]).extras:
        return family
    family = with_own_outputs(family, [first, *others])
    way = _way(model, family, inputs, first)
    refusal = why_not_scripted(model, way, method) if method is not None else None
    if refusal is not None:
        raise UnsupportedFamily(refusal)
    return way


def _way(
    model: nn.Module, family: Family, inputs: Mapping[str, Any], eager: Mapping[str, Any]
) -> Family:
    """How the program ends, so that it answers what the eager model answers."""
    reasons = []
    for way in _ways(family):
        reason = _why_not(model, way, inputs, eager)
        if reason is None:
            return way
        reasons.append(reason)
    raise UnsupportedFamily(
        "The model answers more than detectron2's own fields, and the program would lose or change "
        f"it: {reasons[-1]}. Set fields of Instances within roi_heads, and keys of the answer in "
        "`inference` or `forward`, as tensors that are computed of the image alone."
    )


def why_not_scripted(model: nn.Module, family: Family, method: str) -> str | None:
    """Why scripting would lose what the model answers, and what to do; None where it does not.

    Args:
        model: detectron2's or the user's own.
        family: of ``carried``.
        method: of export.
    """
    if method != SCRIPTING:
        return None
    if family.own_forward or any(each.per == IMAGE for each in family.extras):
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


def _ways(family: Family) -> Iterator[Family]:
    """How the program may end, the simplest first."""
    if not family.is_own:
        yield family
        family = replace(family, own_forward=True)
    yield family
    # A merge in Python, as Panoptic FPN's own is, no program can hold.
    if not family.postprocessed and family.panoptic is None:
        yield replace(family, postprocessed=True)


def _why_not(
    model: nn.Module, family: Family, inputs: Mapping[str, Any], eager: Mapping[str, Any]
) -> str | None:
    names = inputs if family.postprocessed else ("image",)
    try:
        changed, _ = exportable(model, TRACING, family.postprocessed, family.own_forward)
        with torch.no_grad():
            answer = changed([{name: inputs[name] for name in names}])[0]
    except UnsupportedFamily as error:
        return str(error)
    except Exception as error:  # of the author's own code, which misses what is replaced
        return f"{_ending_of(model)} stops ({type(error).__name__}: {one_line(error)})"
    reasons = [_why_lost(each, eager, answer) for each in family.extras]
    return "; ".join(filter(None, reasons)) or None


def why_without_place(family: Family, reason: str) -> str | None:
    """Why a program that has no place for a model's own fields is refused; None of a model that
    has none.

    Args:
        family: with what the model answers.
        reason: ends the sentence, and says what to do.
    """
    if not family.extras:
        return None
    names = " and ".join(each.name for each in family.extras)
    return f"The model answers {names} beyond detectron2's own fields, {reason}"


def _why_lost(extra: Extra, eager: Mapping[str, Any], answer: Mapping[str, Tensor]) -> str | None:
    where = shown(extra.per, extra.name)
    if extra.output not in answer:
        return f"{where} is not made where the program ends"
    of_instances = extra.per == INSTANCE
    value = eager[INSTANCES].get(extra.name) if of_instances else eager[extra.name]
    expected, got = as_tensor(value).cpu(), answer[extra.output].cpu()
    # Those whose boxes are empty are left out of the eager answer alone.
    if of_instances and len(expected) != len(got):
        return None
    return None if _same(expected, got) else f"{where} has other values where the program ends"


def _same(expected: Tensor, got: Tensor) -> bool:
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    if not expected.is_floating_point():
        return torch.equal(expected, got)
    a, b = expected.double(), got.double()
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)


def _ending_of(model: nn.Module) -> str:
    """The method of the author's own in which the answer is made, and where it is."""
    for name in _ENDINGS:
        method = getattr(type(model), name, None)
        if method is not None and not method.__module__.startswith("detectron2."):
            return f"{type(model).__qualname__}.{name} ({place_of(method)})"
    return type(model).__qualname__
