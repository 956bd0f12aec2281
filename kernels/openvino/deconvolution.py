"""Takes deconvolutions of 2x2 before 1x1 convolutions out of a model, as mask heads have them.

Each pixel of the small planes gives four of the large ones, by four matrices. What a 1x1
convolution makes of a pixel does not depend on where the pixel lies. So the four stay images of
their own, and only what the 1x1 convolution gives, of fewer channels, is put in its place.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as opset

from d2serve.kernels.openvino.graph import Found, bias_after, fitting, only_consumer, relu_after
from d2serve.kernels.pointwise import four_of


def replace_deconvolutions(model: ov.Model, *, behind: str | None) -> None:
    """Put 1x1 convolutions in their places.

    Args:
        model: in fp32.
        behind: only of what a node of this type gives; None for all.
    """
    points = {each.images.get_node().get_friendly_name(): each for each in fitting(model, 1)}
    for node in model.get_ordered_ops():
        if node.get_type_name() != "ConvolutionBackpropData" or not _fits(node):
            continue
        if behind not in (None, node.input_value(0).get_node().get_type_name()):
            continue
        weights: NDArray[np.float32] = node.input_value(1).get_node().data
        bias, _, last = bias_after(node, weights.shape[1])
        relu, last = relu_after(last)
        then = points.get(last.get_friendly_name())
        if then is None or then.stride != 1 or then.residual is not None:
            continue
        if only_consumer(last) is not None:
            _replace(node.input_value(0), weights, bias, relu, last, then)


def _replace(
    images: ov.Output,
    weights: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    relu: bool,
    last: ov.Node,
    then: Found,
) -> None:
    outs = weights.shape[1]
    height, width = (images.get_partial_shape()[axis].get_length() for axis in (2, 3))
    four, bias = four_of(weights, bias)
    found = opset.convolution(images, four, [1, 1], [0, 0], [0, 0], [1, 1])
    if bias is not None:
        found = opset.add(found, opset.constant(bias.reshape(1, -1, 1, 1)))
    if relu:
        found = opset.relu(found)
    apart = opset.reshape(found, np.array([-1, outs, height, width], np.int64), special_zero=False)
    last.output(0).replace(apart.output(0))
    output, targets = then.last.output(0), then.last.output(0).get_target_inputs()
    shape = np.array([-1, 4 * then.weights.shape[0], height, width], np.int64)
    together = opset.reshape(output, shape, special_zero=False)
    placed = opset.depth_to_space(together, "blocks_first", 2).output(0)
    placed.get_node().set_friendly_name(f"{then.last.get_friendly_name()}/placed")
    placed.add_names(output.get_names())
    output.set_names(set())
    for target in targets:
        target.replace_source_output(placed)


def _fits(node: ov.Node) -> bool:
    weights, given = node.input_value(1), node.get_attributes()
    shape = node.input_value(0).get_partial_shape()
    return (
        node.get_input_size() == 2
        and weights.get_node().get_type_name() == "Constant"
        and weights.get_element_type() == ov.Type.f32
        and list(weights.get_partial_shape().to_shape())[2:] == [2, 2]
        and shape.rank.is_static
        and shape.rank.get_length() == 4
        and shape[2].is_static
        and shape[3].is_static
        and given["auto_pad"] == "explicit"
        and list(given["strides"]) == [2, 2]
        and list(given["dilations"]) == [1, 1]
        and not any((*given["pads_begin"], *given["pads_end"], *given["output_padding"]))
    )
