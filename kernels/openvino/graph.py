"""What of an OpenVINO model native convolutions can replace, and what has to suit them.

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

_STRIDES = {3: ([1, 1],), 1: ([1, 1], [2, 2])}
"""Of the convolutions that fit, by the size of their kernel. They are padded by half of it."""


@dataclass(frozen=True)
class Found:
    """A convolution, and what of the model goes with it."""

    images: ov.Output
    weights: NDArray[np.float32]
    stride: int
    bias: NDArray[np.float32] | None
    residual: ov.Output | None
    """What is added after the bias, of as many channels; only to a 1x1 convolution of stride 1."""
    upsampled: bool
    """Whether each of the residual's values is added to two by two."""
    relu: bool
    last: ov.Node
    """Whose output is the layer's."""
    key: tuple[str, str, bool, bool]
    """Equal for calls of the same layer."""


def fitting(model: ov.Model, size: int) -> Iterator[Found]:
    """The convolutions of one group with constant weights, in fp32, that native code can do.

    Each is looked at when its turn comes: what it takes may have been replaced by then.

    Args:
        model: of any content.
        size: of the kernel, 3 or 1.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution" or not _is_plain(node, size):
            continue
        weights = node.input_value(1).get_node()
        outs, stride = weights.data.shape[0], node.get_attributes()["strides"][0]
        bias, name, last = bias_after(node, outs)
        residual, upsampled, after = None, False, only_consumer(last)
        if (size, stride) == (1, 1) and after is not None and after.get_type_name() == "Add":
            other = _other(after, last)
            if _has_channels(other, outs):
                residual, last = other, after
                upsampled = _doubles(other)
                if upsampled:
                    residual = other.get_node().input_value(0)
        relu, last = relu_after(last)
        key = (weights.get_friendly_name(), name, relu, upsampled)
        images = node.input_value(0)
        yield Found(images, weights.data, stride, bias, residual, upsampled, relu, last, key)


def bias_after(node: ov.Node, outs: int) -> tuple[NDArray[np.float32] | None, str, ov.Node]:
    """What is added to each of a node's channels and to nothing else, its name, and where."""
    after = only_consumer(node)
    if after is not None and after.get_type_name() == "Add":
        constant = _other(after, node).get_node()
        bias = _per_channel(constant, outs)
        if bias is not None:
            return bias, constant.get_friendly_name(), after
    return None, "", node


def relu_after(node: ov.Node) -> tuple[bool, ov.Node]:
    """Whether only a ReLU takes what a node gives, and the last of the two."""
    after = only_consumer(node)
    if after is not None and after.get_type_name() == "Relu":
        return True, after
    return False, node


def suit_roi_align(output: ov.Output) -> None:
    """Give ROIAlign what it is fast with, where it takes plain features.

    It takes them as they are and is eighteen times slower with them: it gets them by a convolution
    that changes nothing, whose output has the channels together.
    """
    targets = [each for each in output.get_target_inputs() if _aligns(each)]
    if targets:
        channels = output.get_partial_shape()[1].get_length()
        ones = opset.constant(np.ones((channels, 1, 1, 1, 1), np.float32))
        same = opset.group_convolution(output, ones, [1, 1], [0, 0], [0, 0], [1, 1])
        for target in targets:
            target.replace_source_output(same.output(0))


def _aligns(target: ov.Input) -> bool:
    return bool(target.get_node().get_type_name() == "ROIAlign" and target.get_index() == 0)


def _is_plain(node: ov.Node, size: int) -> bool:
    weights, images = node.input_value(1), node.input_value(0).get_partial_shape()
    given = node.get_attributes()
    return (
        weights.get_node().get_type_name() == "Constant"
        and weights.get_element_type() == ov.Type.f32
        and list(weights.get_partial_shape().to_shape())[2:] == [size, size]
        and images.rank.is_static
        and images.rank.get_length() == 4
        and given["auto_pad"] == "explicit"
        and list(given["strides"]) in _STRIDES[size]
        and list(given["dilations"]) == [1, 1]
        and list(given["pads_begin"]) == list(given["pads_end"]) == [size // 2] * 2
    )


def only_consumer(node: ov.Node) -> ov.Node | None:
    """What takes a node's output, if nothing else does."""
    targets = list(node.output(0).get_target_inputs())
    return targets[0].get_node() if len(targets) == 1 else None


def _other(node: ov.Node, one: ov.Node) -> ov.Output:
    """The other of the two that a node takes."""
    first, second = node.input_values()
    return second if first.get_node().get_friendly_name() == one.get_friendly_name() else first


def _doubles(output: ov.Output) -> bool:
    """Whether each value becomes two by two, and only one node takes them."""
    node = output.get_node()
    if node.get_type_name() != "Interpolate" or only_consumer(node) is None:
        return False
    given, factors = node.get_attributes(), node.input_value(1).get_node()
    return bool(
        node.get_input_size() == 2
        and factors.get_type_name() == "Constant"
        and factors.data.tolist() == [1, 1, 2, 2]
        and given["shape_calculation_mode"] == "scales"
        and (given["mode"], given["nearest_mode"]) == ("nearest", "floor")
        and given["coordinate_transformation_mode"] == "asymmetric"
        and not any((*given["pads_begin"], *given["pads_end"]))
    )


def _has_channels(output: ov.Output, channels: int) -> bool:
    shape = output.get_partial_shape()
    return bool(
        shape.rank.is_static
        and shape.rank.get_length() == 4
        and shape[1].is_static
        and shape[1].get_length() == channels
        and output.get_element_type() == ov.Type.f32
    )


def _per_channel(node: ov.Node, channels: int) -> NDArray[np.float32] | None:
    if node.get_type_name() != "Constant" or node.get_element_type() != ov.Type.f32:
        return None
    values: NDArray[np.float32] = node.data
    fits = values.shape in ((1, channels, 1, 1), (channels, 1, 1))
    return np.ascontiguousarray(values.reshape(channels)) if fits else None
