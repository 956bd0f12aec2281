"""Why: what a call may ask for, what it gets and what the metadata say must be the same list.

Asked for none in particular, an answer has all that the model found but ``reply``, which would say
it a second time; with ``draw`` it has ``reply`` alone, which is the picture then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.oip.tensors import BYTES, FP32, INT64
from d2serve.handlers.requests.options import NONE, RequestOptions
from d2serve.handlers.spec.model_spec import (
    BOXES,
    HEATMAPS,
    KEYPOINTS,
    MASKS,
    PROPOSAL_BOXES,
    SEM_SEG,
    XYWHA_ABS,
    ModelSpec,
)

REPLY = "reply"


@dataclass(frozen=True)
class Output:
    """An output that a model has; -1 in its shape is as many as there are."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def outputs_of(spec: ModelSpec) -> tuple[Output, ...]:
    """The outputs that a call may ask for, in the order of an answer."""
    outputs = [Output("image_size", INT64, (2,))]
    if BOXES in spec.outputs:
        corners = 5 if spec.box_mode == XYWHA_ABS else 4
        outputs += [
            Output("boxes", FP32, (-1, corners)),
            Output("scores", FP32, (-1,)),
            Output("classes", INT64, (-1,)),
        ]
        if spec.class_names is not None:
            outputs.append(Output("class_names", BYTES, (-1,)))
        if MASKS in spec.outputs:
            outputs.append(Output("masks", BYTES, (-1,)))
        if KEYPOINTS in spec.outputs or HEATMAPS in spec.outputs:
            outputs.append(Output("keypoints", FP32, (-1, -1, 3)))
    if PROPOSAL_BOXES in spec.outputs:
        outputs.append(Output("proposal_boxes", FP32, (-1, 4)))
        outputs.append(Output("objectness_logits", FP32, (-1,)))
    if SEM_SEG in spec.outputs:
        outputs.append(Output("sem_seg", BYTES, (1,)))
    if spec.panoptic is not None:
        outputs.append(Output("panoptic_seg", BYTES, (1,)))
    return (*outputs, Output(REPLY, BYTES, (1,)))


def chosen_outputs(
    wanted: Sequence[str] | None, options: RequestOptions, spec: ModelSpec
) -> tuple[str, ...]:
    """Names of the outputs of an answer.

    Args:
        wanted: those that the call asks for; None where it leaves that to us.
        options: of the same request.

    Raises:
        InvalidOption: an output is asked for twice, or is none that this model has.
    """
    names = [each.name for each in outputs_of(spec)]
    if options.masks == NONE and "masks" in names:
        names.remove("masks")
    if wanted is None:
        return (REPLY,) if options.draw else tuple(name for name in names if name != REPLY)
    for name in wanted:
        if name not in names or wanted.count(name) > 1:
            raise InvalidOption(
                f"Got {name[:40]!a} among the outputs{' twice' if name in names else ''}, expected "
                f"each once, out of {', '.join(names)}."
            )
    return tuple(wanted)
