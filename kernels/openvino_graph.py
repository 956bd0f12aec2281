"""What of an OpenVINO model Winograd's convolutions can replace, and what has to suit them.

OpenVINO runs its convolutions on tensors whose channels lie together (NHWC); an operator of ours
takes and gives plain ones (NCHW). It puts a copy between the two wherever they meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as opset

_MOST_OUTS_OF_A_PRODUCT = 64
"""A 1x1 convolution of more costs more as a matrix product than the copy that this saves."""


@dataclass(frozen=True)
class Found:
    """A convolution, and what of the model goes with it."""

    images: ov.Output
    weights: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    relu: bool
    last: ov.Node
    """Whose output is the layer's."""
    key: tuple[str, str, bool]
    """Equal for calls of the same layer."""


def fitting(model: ov.Model) -> Iterator[Found]:
    """The 3x3 convolutions of stride 1, padding 1 and one group with constant weights, in fp32.

    Each is looked at when its turn comes: what it takes may have been replaced by then.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution" or not _is_plain(node, size=3, padding=1):
            continue
        weights = node.input_value(1).get_node()
        bias, name, relu, last = None, "", False, node
        after = _only_consumer(last)
        if after is not None and after.get_type_name() == "Add":
            constant = _other(after, last)
            bias = _per_channel(constant, weights.data.shape[0])
            if bias is not None:
                name, last, after = constant.get_friendly_name(), after, _only_consumer(after)
        if after is not None and after.get_type_name() == "Relu":
            relu, last = True, after
        key = (weights.get_friendly_name(), name, relu)
        yield Found(node.input_value(0), weights.data, bias, relu, last, key)


def suit_consumers(operator: ov.Op) -> None:
    """Spare what takes an operator's plain output the copy, or give it what it is fast with.

    ROIAlign takes plain features as they are and is eighteen times slower with them: it gets them
    by a convolution that changes nothing, whose output has the channels together. Narrow 1x1
    convolutions become matrix products, which need no copy.
    """
    output = operator.output(0)
    channels = output.get_partial_shape()[1].get_length()
    aligning = []
    for target in output.get_target_inputs():
        node = target.get_node()
        if node.get_type_name() == "ROIAlign" and target.get_index() == 0:
            aligning.append(target)
        elif _is_narrow(node):
            _as_product(node)
    if aligning:
        ones = opset.constant(np.ones((channels, 1, 1, 1, 1), np.float32))
        same = opset.group_convolution(output, ones, [1, 1], [0, 0], [0, 0], [1, 1])
        for target in aligning:
            target.replace_source_output(same.output(0))


def _is_narrow(node: ov.Node) -> bool:
    if node.get_type_name() != "Convolution" or not _is_plain(node, size=1, padding=0):
        return False
    outs: int = node.input_value(1).get_partial_shape()[0].get_length()
    return outs <= _MOST_OUTS_OF_A_PRODUCT


def _as_product(node: ov.Node) -> None:
    images, weights = node.input_value(0), node.input_value(1).get_node().data
    rows = opset.constant(np.ascontiguousarray(weights.reshape(weights.shape[:2])))
    flat = opset.reshape(images, np.array([0, 0, -1], np.int64), special_zero=True)
    product = opset.matmul(rows, flat, False, False)
    sides = opset.gather(opset.shape_of(images), np.array([2, 3], np.int64), np.array(0, np.int64))
    start = np.array([0, weights.shape[0]], np.int64)
    shape = opset.concat([opset.constant(start), sides], 0)
    node.output(0).replace(opset.reshape(product, shape, special_zero=True).output(0))


def _is_plain(node: ov.Node, size: int, padding: int) -> bool:
    weights, images = node.input_value(1), node.input_value(0).get_partial_shape()
    given = node.get_attributes()
    return (
        weights.get_node().get_type_name() == "Constant"
        and weights.get_element_type() == ov.Type.f32
        and list(weights.get_partial_shape().to_shape())[2:] == [size, size]
        and images.rank.is_static
        and images.rank.get_length() == 4
        and given["auto_pad"] == "explicit"
        and list(given["strides"]) == [1, 1]
        and list(given["dilations"]) == [1, 1]
        and list(given["pads_begin"]) == list(given["pads_end"]) == [padding, padding]
    )


def _only_consumer(node: ov.Node) -> ov.Node | None:
    targets = list(node.output(0).get_target_inputs())
    return targets[0].get_node() if len(targets) == 1 else None


def _other(node: ov.Node, one: ov.Node) -> ov.Node:
    """The other of the two that a node takes."""
    first, second = (value.get_node() for value in node.input_values())
    return second if first.get_friendly_name() == one.get_friendly_name() else first


def _per_channel(node: ov.Node, channels: int) -> NDArray[np.float32] | None:
    if node.get_type_name() != "Constant" or node.get_element_type() != ov.Type.f32:
        return None
    values: NDArray[np.float32] = node.data
    fits = values.shape in ((1, channels, 1, 1), (channels, 1, 1))
    return np.ascontiguousarray(values.reshape(channels)) if fits else None
