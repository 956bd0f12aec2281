"""Finds what a model answers beyond detectron2's own, and refuses by name what cannot travel.

Only a model that has run tells: a field of ``Instances``, or a key of the model's dict, may be set
anywhere in its author's code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.reading.family import Family
from d2serve.export.rewrites.endings import DETECTIONS
from d2serve.export.rewrites.endings import PROPOSALS as FIELDS_OF_PROPOSALS
from d2serve.export.rewrites.own_models.endings import INSTANCES, KEYS, PROPOSALS
from d2serve.handlers.spec.extras import DTYPES, IMAGE, INSTANCE, KINDS, TENSOR, Extra, is_name
from d2serve.handlers.spec.output_names import (
    HEATMAPS,
    KEYPOINTS,
    PANOPTIC_SEG,
    PROPOSAL_BOXES,
    SEM_SEG,
)

_LEFT_OUT = "Leave it out at inference, so that nothing is lost unseen"


def with_own_outputs(family: Family, answers: Sequence[Mapping[str, Any]]) -> Family:
    """A family with all that its model was seen to answer.

    Args:
        family: the model's.
        answers: detectron2's dicts for some images.

    Raises:
        UnsupportedFamily: something would not be served; the message names it.
    """
    for answer in answers:
        _require_keys(family, answer)
    found = [_extras_of(family, answer) for answer in answers]
    names = [name for each in found for name in each]
    extras = [_merged([each.get(name) for each in found]) for name in dict.fromkeys(names)]
    return replace(family, extras=tuple(extras))


def array_of(where: str, value: object) -> npt.NDArray[np.generic]:
    """The numbers of a value of the model's own.

    Args:
        where: what it is, for the message.

    Raises:
        UnsupportedFamily: no reply can have it.
    """
    array: npt.NDArray[np.generic] = _tensor_of(where, value).detach().cpu().numpy()
    return array


def own_to_model(
    values: Mapping[str, Any], detectron2s: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """What of a dict, or of the fields of Instances, is not detectron2's."""
    return ((name, value) for name, value in values.items() if name not in detectron2s)


def refuse_own_of_proposals(fields: Mapping[str, Any]) -> None:
    """Make sure that proposals have detectron2's fields alone.

    Raises:
        UnsupportedFamily: there is another.
    """
    for name, _ in own_to_model(fields, FIELDS_OF_PROPOSALS):
        raise UnsupportedFamily(
            f"The model answers proposals with the field {name!r}, which the response format has "
            f"no place for. {_LEFT_OUT}."
        )


def _require_keys(family: Family, answer: Mapping[str, Any]) -> None:
    expected = {
        INSTANCES: family.has_instances,
        SEM_SEG: SEM_SEG in family.outputs,
        PANOPTIC_SEG: family.panoptic is not None or PANOPTIC_SEG in family.outputs,
        PROPOSALS: PROPOSAL_BOXES in family.outputs,
    }
    for key, is_expected in expected.items():
        if (key in answer) != is_expected:
            raise UnsupportedFamily(
                f"The model answers {'no ' if is_expected else ''}{key!r}, which a {family.name} "
                f"{'does' if is_expected else 'does not'}: its own code changes what it answers "
                "in a way that the export does not follow. Answer what that family answers, and "
                "anything else under a name of its own."
            )
    if PROPOSALS in answer:
        refuse_own_of_proposals(answer[PROPOSALS].get_fields())
    fields = answer[INSTANCES].get_fields() if INSTANCES in answer else {}
    served = {*family.outputs, *([HEATMAPS] if KEYPOINTS in family.outputs else [])}
    for name in DETECTIONS if fields else ():
        needed = name in family.outputs
        if needed > (name in fields) or (name in fields and name not in served):
            raise UnsupportedFamily(
                f"The model answers Instances {'without' if needed else 'with'} {name}, which a "
                f"{family.name} {'has' if needed else 'has not'}: its own code changes what it "
                "answers in a way that the export does not follow."
            )


def _extras_of(family: Family, answer: Mapping[str, Any]) -> dict[tuple[str, str], Extra]:
    extras = []
    if family.has_instances:
        fields = answer[INSTANCES].get_fields()
        for name, value in own_to_model(fields, DETECTIONS):
            extras.append(_extra(INSTANCE, name, value))
    for name, value in own_to_model(answer, KEYS):
        extras.append(_extra(IMAGE, name, value))
    return {(each.per, each.name): each for each in extras}


def _extra(per: str, name: str, value: object) -> Extra:
    where = shown(per, name)
    tensor = _tensor_of(where, value)
    if not is_name(name):
        raise UnsupportedFamily(
            f"The model answers {where}, whose name has other characters than letters, digits and "
            "_ . -, or too many. Rename it."
        )
    sides = tuple(tensor.shape)
    kind = TENSOR if isinstance(value, torch.Tensor) else type(value).__name__
    return Extra(name, per, kind, _dtype(tensor), sides[1:] if per == INSTANCE else sides)


def shown(per: str, name: object) -> str:
    """What a field or key is called in messages."""
    return f"the field {name!r} of Instances" if per == INSTANCE else f"the key {name!r}"


def _tensor_of(where: str, value: object) -> torch.Tensor:
    tensor = value if isinstance(value, torch.Tensor) else getattr(value, "tensor", None)
    is_known = isinstance(value, torch.Tensor) or type(value).__name__ in KINDS
    if not (is_known and isinstance(tensor, torch.Tensor)):
        raise UnsupportedFamily(
            f"The model answers {where}, which is of the type {type(value).__name__}: no program "
            f"can answer it. Tensors are carried ({', '.join(DTYPES)}), and "
            f"{', '.join(KINDS[1:])}. Make it one, under a name of its own, or leave it out at "
            "inference."
        )
    if _dtype(tensor) not in DTYPES:
        raise UnsupportedFamily(
            f"The model answers {where}, a tensor of {tensor.dtype}: expected one of "
            f"{', '.join(DTYPES)}. Convert it, e.g. by .float()."
        )
    return tensor


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _merged(seen: Sequence[Extra | None]) -> Extra:
    """One extra of what it was on several images."""
    known = [each for each in seen if each is not None]
    first = known[0]
    where = shown(first.per, first.name)
    if len(known) < len(seen):
        raise UnsupportedFamily(
            f"The model answers {where} for some images only, and a program answers the same names "
            f"for every image. Set it always, empty where there is nothing. {_LEFT_OUT} otherwise."
        )
    forms = {(each.kind, each.dtype, len(each.shape)) for each in known}
    if len(forms) > 1:
        raise UnsupportedFamily(
            f"The model answers {where} in another form for another image: "
            f"{' and '.join(f'{kind} of {dtype} in {n} dimensions' for kind, dtype, n in forms)}. "
            "Answer one form."
        )
    sides = zip(*(each.shape for each in known))
    shape = tuple(each[0] if len(set(each)) == 1 else None for each in sides)
    return replace(first, shape=shape)
