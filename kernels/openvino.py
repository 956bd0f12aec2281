"""Puts Winograd's convolutions into an OpenVINO model that is loaded; its files stay as they are.

An operator in Python needs nothing of OpenVINO's binary interface, so it works with every release,
and it costs a fraction of a millisecond a call: OpenVINO hands over the memory of its tensors, and
the native code runs without the interpreter's lock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as opset

from d2serve.kernels.choosing import pays
from d2serve.kernels.library import Convolution
from d2serve.kernels.openvino_graph import fitting, suit_consumers
from d2serve.kernels.weights import transformed


@dataclass
class Replaced:
    """What was replaced in a model, and by how many threads it runs."""

    threads: int
    """Of each call; may change between calls."""
    convolutions: int = 0
    """That are Winograd's now."""
    others: int = 0
    """3x3 convolutions of the model that are not."""
    files: set[Path] = field(default_factory=set)
    """Of transformed weights, which are mapped."""
    _operators: list[ov.Op] = field(default_factory=list)
    """OpenVINO holds their C++ halves only."""

    def __str__(self) -> str:
        of = self.convolutions + self.others
        return f"Winograd's algorithm in {self.convolutions} of its {of} 3x3 convolutions"


class WinogradConvolution(ov.Op):  # type: ignore[misc]
    """A 3x3 convolution with its bias and ReLU: (N, ins, H, W) to (N, outs, H, W)."""

    def __init__(
        self,
        images: ov.Output | None = None,
        layer: ov.Output | None = None,
        convolution: Convolution | None = None,
        replaced: Replaced | None = None,
    ) -> None:
        """Take the images, and a constant that tells this layer from others.

        OpenVINO makes one of two operators of a kind that take the same; what is in them, it does
        not see. Without the constant, layers side by side over the same images would be one.
        """
        super().__init__(self)
        # Before the arguments: setting those asks for the output's shape.
        self._convolution, self._replaced = convolution, replaced
        if images is not None and replaced is not None:
            replaced._operators.append(self)
            self.set_arguments([images, layer])
            self.constructor_validate_and_infer_types()

    def validate_and_infer_types(self) -> None:
        shape = self.get_input_partial_shape(0)
        assert self._convolution is not None
        found = ov.PartialShape([shape[0], self._convolution.outs, shape[2], shape[3]])
        self.set_output_type(0, self.get_input_element_type(0), found)

    def clone_with_new_inputs(self, new_inputs: list[ov.Output]) -> WinogradConvolution:
        images, layer = new_inputs
        return WinogradConvolution(images, layer, self._convolution, self._replaced)

    def has_evaluate(self) -> bool:
        return True

    def evaluate(self, outputs: list[ov.Tensor], inputs: list[ov.Tensor]) -> bool:
        assert self._convolution is not None
        assert self._replaced is not None
        given = inputs[0].shape
        outputs[0].shape = [given[0], self._convolution.outs, given[2], given[3]]
        if outputs[0].size:
            self._convolution(inputs[0].data, outputs[0].data, self._replaced.threads)
        return True


def replace_convolutions(
    model: ov.Model, beside: Path | None, threads: int, *, where_it_pays: bool
) -> Replaced:
    """Put Winograd's convolutions in the places of those that fit, in the model itself.

    Args:
        model: in fp32.
        beside: where transformed weights are shared, see ``transformed``.
        threads: of each call.
        where_it_pays: leave out those that are no faster, or not by as much as they take memory.
    """
    replaced = Replaced(threads)
    made: dict[tuple[str, str, bool], tuple[Convolution, ov.Output]] = {}
    for found in fitting(model):
        outs, ins = found.weights.shape[:2]
        if where_it_pays and not pays(outs, ins):
            replaced.others += 1
            continue
        if found.key not in made:
            stored = transformed(found.weights, beside)
            if isinstance(stored, np.memmap) and stored.filename is not None:
                replaced.files.add(Path(stored.filename))
            convolution = Convolution.of(found.weights, found.bias, found.relu, transformed=stored)
            layer = opset.constant(np.array(len(made), np.int64)).output(0)
            made[found.key] = convolution, layer
        convolution, layer = made[found.key]
        operator = WinogradConvolution(found.images, layer, convolution, replaced)
        operator.set_friendly_name(found.last.get_friendly_name())
        names = found.last.output(0).get_names()
        found.last.output(0).replace(operator.output(0))
        operator.output(0).add_names(names)
        replaced.convolutions += 1
        suit_consumers(operator)
    model.validate_nodes_and_infer_types()
    return replaced
