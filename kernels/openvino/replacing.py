"""Puts native convolutions into an OpenVINO model that is loaded; its files stay as they are.

An operator in Python needs nothing of OpenVINO's binary interface, so it works with every release,
and it costs a fraction of a millisecond a call: OpenVINO hands over the memory of its tensors, and
the native code runs without the interpreter's lock.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as opset

from d2serve.kernels.choosing import pays
from d2serve.kernels.openvino.deconvolution import replace_deconvolutions
from d2serve.kernels.openvino.graph import Found, fitting, suit_roi_align
from d2serve.kernels.pointwise import Pointwise
from d2serve.kernels.weights import transformed
from d2serve.kernels.winograd import Convolution

OURS = weakref.ProxyType.__name__
"""The type of our operators, as OpenVINO names them: for what they give to ``ov.Op``."""


@dataclass
class Replaced:
    """What was replaced in a model, and by how many threads it runs.

    It holds the operators, so it has to stay as long as the model, and what was compiled of it.
    """

    threads: int
    """Of each call; may change between calls."""
    convolutions: int = 0
    """That are Winograd's now."""
    points: int = 0
    """1x1 convolutions that are ours now."""
    others: int = 0
    """3x3 convolutions of the model that are not."""
    files: set[Path] = field(default_factory=set)
    """Of transformed weights, which are mapped."""
    _operators: list[ov.Op] = field(default_factory=list)
    """OpenVINO holds their C++ halves only."""

    def __str__(self) -> str:
        of = self.convolutions + self.others
        found = f"Winograd's algorithm in {self.convolutions} of its {of} 3x3 convolutions"
        return f"{found} and d2serve's own {self.points} of 1x1" if self.points else found


class NativeConvolution(ov.Op):  # type: ignore[misc]
    """A convolution with its bias, sum and ReLU: (N, ins, H, W) to (N, outs, height, width)."""

    def __init__(
        self,
        given: Sequence[ov.Output] = (),
        convolution: Convolution | Pointwise | None = None,
        replaced: Replaced | None = None,
    ) -> None:
        """Take the images, a constant that tells this layer from others, and maybe a residual.

        OpenVINO makes one of two operators of a kind that take the same, and does not see what is
        in them. Without the constant, layers side by side over the same images would be one.
        """
        # OpenVINO would keep what it is given for as long as the operator, which keeps OpenVINO's
        # half: neither would ever go, and there are new ones for each new shape.
        super().__init__(weakref.proxy(self))
        # Before the arguments: setting those asks for the output's shape.
        self._convolution, self._replaced = convolution, replaced
        self._clones: list[NativeConvolution] = []
        self._is_clone = False
        if replaced is not None:
            self.set_arguments(list(given))
            self.constructor_validate_and_infer_types()

    def validate_and_infer_types(self) -> None:
        assert self._convolution is not None
        count, _, *sides = self.get_input_partial_shape(0)
        sides = [_divided(side, self._convolution.stride) for side in sides]
        if self.get_input_size() > 2:
            others, _, *halves = self.get_input_partial_shape(2)
            count = _together(count, others)
            sides = [_together(side, half, self._scale()) for side, half in zip(sides, halves)]
        shape = ov.PartialShape([count, ov.Dimension(self._convolution.outs), *sides])
        self.set_output_type(0, self.get_input_element_type(0), shape)

    def clone_with_new_inputs(self, new_inputs: list[ov.Output]) -> NativeConvolution:
        clone = NativeConvolution(new_inputs, self._convolution, self._replaced)
        clone._is_clone = True
        # OpenVINO holds its C++ half only. It runs clones of the model's operators, and clones
        # these once more for each new shape, to ask for the result's, and then never again.
        if self._is_clone:
            self._clones.clear()
        self._clones.append(clone)
        return clone

    def has_evaluate(self) -> bool:
        return True

    def evaluate(self, outputs: list[ov.Tensor], inputs: list[ov.Tensor]) -> bool:
        assert self._convolution is not None
        assert self._replaced is not None
        images, added = inputs[0].data, [each.data for each in inputs[2:]]
        if added:
            images, added[0] = _alike(images, added[0], self._scale())
        outputs[0].shape = self._convolution.shape(images.shape)
        if outputs[0].size:
            self._convolution(images, outputs[0].data, self._replaced.threads, *added)
        return True

    def _scale(self) -> int:
        """How many pixels each of a residual's counts for, along a side."""
        is_upsampled = isinstance(self._convolution, Pointwise) and self._convolution.upsampled
        return 2 if is_upsampled else 1


def _alike(
    images: NDArray[np.float32], residual: NDArray[np.float32], scale: int
) -> Iterator[NDArray[np.float32]]:
    """Both with as many images and pixels: one of two that are added may have a single one.

    What is added to a 1x1 convolution's result may as well be as large as its images.
    """
    (count, height, width), (others, high, wide) = images[:, 0].shape, residual[:, 0].shape
    found = np.broadcast_shapes((count, height, width), (others, scale * high, scale * wide))
    for each, by in ((images, 1), (residual, scale)):
        shape = found[0], each.shape[1], found[1] // by, found[2] // by
        yield np.ascontiguousarray(np.broadcast_to(each, shape))


def replace_convolutions(
    model: ov.Model, beside: Path | None, threads: int, *, where_it_pays: bool
) -> Replaced:
    """Put native convolutions in the places of those that fit, in the model itself.

    Args:
        model: in fp32.
        beside: where transformed weights are shared, see ``transformed``.
        threads: of each call.
        where_it_pays: leave out those that are no faster, or not by as much as they take memory.
    """
    replaced = Replaced(threads)
    put = _Putting(replaced)
    for found in fitting(model, 3):
        if where_it_pays and not pays(*found.weights.shape[:2]):
            replaced.others += 1
            continue
        put(found, partial(_winograd, found, beside, replaced))
        replaced.convolutions += 1
    replace_deconvolutions(model, behind=OURS if where_it_pays else None)
    for found in fitting(model, 1):
        if not where_it_pays or _is_beside_ours(found):
            put(found, partial(_pointwise, found))
            replaced.points += 1
    for operator in replaced._operators:
        suit_roi_align(operator.output(0))
    model.validate_nodes_and_infer_types()
    return replaced


@dataclass(frozen=True)
class _Putting:
    """Puts operators into a model; calls of the same layer share its convolution."""

    replaced: Replaced
    _made: dict[tuple[str, str, bool, bool], tuple[Convolution | Pointwise, ov.Output]] = field(
        default_factory=dict
    )

    def __call__(self, found: Found, make: Callable[[], Convolution | Pointwise]) -> None:
        if found.key not in self._made:
            layer = opset.constant(np.array(len(self._made), np.int64)).output(0)
            self._made[found.key] = make(), layer
        convolution, layer = self._made[found.key]
        residual = [] if found.residual is None else [found.residual]
        operator = NativeConvolution([found.images, layer, *residual], convolution, self.replaced)
        self.replaced._operators.append(operator)
        operator.set_friendly_name(found.last.get_friendly_name())
        names = found.last.output(0).get_names()
        found.last.output(0).replace(operator.output(0))
        operator.output(0).add_names(names)


def _winograd(found: Found, beside: Path | None, replaced: Replaced) -> Convolution:
    stored = transformed(found.weights, beside)
    if isinstance(stored, np.memmap) and stored.filename is not None:
        replaced.files.add(Path(stored.filename))
    return Convolution.of(found.weights, found.bias, found.relu, transformed=stored)


def _pointwise(found: Found) -> Pointwise:
    return Pointwise(found.weights, found.bias, found.relu, found.stride, upsampled=found.upsampled)


def _is_beside_ours(found: Found) -> bool:
    """Whether a copy goes with it, between one layout and the other."""
    before = [found.images] if found.residual is None else [found.images, found.residual]
    nodes = [_source(each) for each in before]
    nodes += [each.get_node() for each in found.last.output(0).get_target_inputs()]
    return any(each.get_type_name() == OURS for each in nodes)


def _source(output: ov.Output) -> ov.Node:
    """What gives a tensor, however it was cut into images since."""
    node = output.get_node()
    while node.get_type_name() == "Reshape":
        node = node.input_value(0).get_node()
    return node


def _divided(side: ov.Dimension, stride: int) -> ov.Dimension:
    if side.is_static:
        return ov.Dimension(-(-side.get_length() // stride))
    return side if stride == 1 else ov.Dimension()


def _together(one: ov.Dimension, other: ov.Dimension, by: int = 1) -> ov.Dimension:
    """What two sides are when they are broadcast; the other one counts several times."""
    if one.is_static and other.is_static:
        return ov.Dimension(max(one.get_length(), by * other.get_length()))
    return one if one == other and by == 1 else ov.Dimension()
