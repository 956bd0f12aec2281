"""Finds deconvolutions of 2x2 before 1x1 convolutions, as mask heads have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from d2serve.kernels.onnxruntime.convolutions import Found, Layer, has_attributes, weights_and_bias
from d2serve.kernels.onnxruntime.graph import Graph

# What an attribute may be; None where it may be left out.
_FITTING: Mapping[str, tuple[object, ...]] = {
    "kernel_shape": ((2, 2), None),
    "strides": ((2, 2),),
    "pads": ((0, 0, 0, 0), None),
    "dilations": ((1, 1), None),
    "group": (1, None),
    "auto_pad": ("NOTSET", None),
    "output_padding": ((0, 0), None),
    "output_shape": (None,),
}


@dataclass(frozen=True)
class Deconvolution:
    """A deconvolution, with its ReLU, and the 1x1 convolution that alone takes its result."""

    layer: Layer
    """The deconvolution's, whose weights are (ins, outs, 2, 2)."""
    images: str
    then: Found

    @property
    def last(self) -> int:
        """The index of the node whose result is the replacement's."""
        return self.then.last

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the replacement takes."""
        return (self.images,)


def deconvolutions(graph: Graph, points: Iterable[Found]) -> Iterator[Deconvolution]:
    """Those that fit.

    Args:
        graph: of a program.
        points: the 1x1 convolutions that fit in it.
    """
    by_images = {each.images: each for each in points}
    for index, node in enumerate(graph.nodes):
        if not has_attributes(node, "ConvTranspose", _FITTING):
            continue
        constants = weights_and_bias(graph, node, 2)
        if constants is None:
            continue
        relu = graph.only_taker(index, "Relu")
        last = index if relu is None else relu
        then = by_images.get(graph.nodes[last].outputs[0])
        if then is None or graph.only_taker(last, "Conv") is None:
            continue
        if then.residual is None and then.layer.stride == 1:
            layer = Layer(*constants, relu is not None, 1, False)
            yield Deconvolution(layer, node.inputs[0], then)
