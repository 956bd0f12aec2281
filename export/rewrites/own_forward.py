"""Ends a model in tensors where its author changed what it answers: by its own ``forward``.

An equivalent of detectron2's ``forward`` (endings.py) would lose what a subclass's own method adds.
So that method runs, and only detectron2's postprocessing in it does nothing: boxes stay in pixels
of the resized image, masks and labels in the size of the network's, and things and stuff apart, as
the handler takes them. A trace follows it; TorchScript cannot.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from detectron2.modeling import postprocessing
from detectron2.modeling.meta_arch import panoptic_fpn
from torch import Tensor, nn

from d2serve.export.rewrites.endings import DETECTIONS, PROPOSALS, named_fields
from d2serve.handlers.spec.extras import IMAGE, KINDS, output_name
from d2serve.handlers.spec.output_names import SEM_SEG

_Answer = Mapping[str, Any]


class OwnForward(nn.Module):
    """``List[Dict[str, Tensor]]`` in and out, by the forward of a model with an ending of its own.

    What a key of its answer holds and is no tensor, and no structure of one, is left out.
    """

    def __init__(self, model: nn.Module) -> None:
        """Wrap a model, in evaluation mode."""
        super().__init__()
        self.model = model

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """The raw outputs of each image, by the names that a program gives them."""
        with without_postprocessing():
            return [raw_outputs(each) for each in self.model(inputs)]


def raw_outputs(answer: _Answer) -> dict[str, Tensor]:
    """The tensors of detectron2's dict for one image, by the names that a program gives them."""
    outputs: dict[str, Tensor] = {}
    for key, value in answer.items():
        if key == "instances":
            outputs.update(named_fields(value, DETECTIONS))
        elif key == "proposals":
            outputs.update(named_fields(value, PROPOSALS))
        elif key == SEM_SEG:
            outputs[SEM_SEG] = value
        elif isinstance(value, Tensor):
            outputs[output_name(IMAGE, key)] = value
        elif type(value).__name__ in KINDS:
            outputs[output_name(IMAGE, key)] = value.tensor
    return outputs


@contextmanager
def without_postprocessing() -> Iterator[None]:
    """Let detectron2's postprocessing return what it gets, wherever it was imported."""
    stand_ins = {
        id(postprocessing.detector_postprocess): _same,
        id(postprocessing.sem_seg_postprocess): _same,
        id(panoptic_fpn.combine_semantic_and_instance_outputs): _nothing,
    }
    found = [
        (names, name, value)
        for names in [getattr(module, "__dict__", {}) for module in list(sys.modules.values())]
        for name, value in list(names.items())
        if id(value) in stand_ins
    ]
    for names, name, value in found:
        names[name] = stand_ins[id(value)]
    try:
        yield
    finally:
        for names, name, value in found:
            names[name] = value


def _same(result: Any, *_: Any, **__: Any) -> Any:
    return result


def _nothing(*_: Any, **__: Any) -> None:
    return None
