"""Gives TorchScript our convolutions: an operator of ours stands for the fitting ones of a program.

A loaded program's methods are graphs, which may be changed until they first run. The operator gets
what the convolution got, and finds ours by where the weights lie in memory, since modules may share
a graph. With weights that it does not know it is torch's own convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from d2serve.kernels.weights import transformed
from d2serve.kernels.winograd import Convolution

# Torch's convolutions, and what their arguments must be, by their places. Before those are the
# images, the weights and the bias.
_FITTING: dict[str, dict[int, object]] = {
    # stride, padding, dilation, transposed, output padding, groups
    "aten::_convolution": {3: [1, 1], 4: [1, 1], 5: [1, 1], 6: False, 7: [0, 0], 8: 1},
    "aten::conv2d": {3: [1, 1], 4: [1, 1], 5: [1, 1], 6: 1},
}
_known: WeakValueDictionary[tuple[int, int], Convolution] = WeakValueDictionary()


def _convolve(
    images: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    known = _known.get(_key(weights, bias))
    if known is None or images.dtype != torch.float32 or images.dim() != 4:
        return torch.conv2d(images, weights, bias, padding=1)
    count, _, height, width = images.shape
    result = torch.empty((count, known.outs, height, width))
    known(images.contiguous().numpy(), result.numpy(), torch.get_num_threads())
    return result


_operators: Any = torch.library.Library("d2serve", "DEF")  # type: ignore[no-untyped-call]
_operators.define("convolution(Tensor images, Tensor weights, Tensor? bias) -> Tensor")
_operators.impl("convolution", _convolve, "CompositeExplicitAutograd")


@dataclass(frozen=True)
class Replaced:
    """The convolutions in a program that are ours now, which it uses as long as this is kept."""

    convolutions: tuple[Convolution, ...]

    def __str__(self) -> str:
        return f"Winograd's algorithm in its {len(self.convolutions)} 3x3 convolutions"


def replace_convolutions(program: torch.jit.ScriptModule, beside: Path | None) -> Replaced:
    """Replace the fitting convolutions of a program on the CPU that has not run yet.

    Args:
        program: is changed.
        beside: where transformed weights are shared, see ``transformed``.
    """
    made: dict[tuple[int, int], Convolution] = {}
    for module, _graph, node in _places(program):
        weights = _likely(module, node.inputsAt(1), "weight")
        bias = _likely(module, node.inputsAt(2), "bias")
        if weights is not None and _is_kernel(weights) and _key(weights, bias) not in made:
            made[_key(weights, bias)] = _own(weights, bias, beside)
    # Only now, since modules of one class have one graph.
    for _module, graph, node in _places(program):
        _replace(graph, node)
    _known.update(made)
    return Replaced(tuple(made.values()))


def _places(program: torch.jit.ScriptModule) -> Iterator[tuple[torch.nn.Module, Any, Any]]:
    """The fitting convolutions of a program: module, graph and node."""
    for module in program.modules():
        compiled: Any = module._c
        for method in compiled._method_names():
            graph = compiled._get_method(method).graph
            for node in list(_fitting(graph)):
                yield module, graph, node


def _fitting(block: Any) -> Iterator[Any]:
    """The fitting convolutions of a graph or a block in it."""
    for node in block.nodes():
        wanted = _FITTING.get(node.kind())
        if wanted and all(_value(node.inputsAt(at)) == value for at, value in wanted.items()):
            yield node
        for inner in node.blocks():
            yield from _fitting(inner)


def _value(given: Any) -> object:
    """What a constant argument is; None for others."""
    maker = given.node()
    if maker.kind() == "prim::ListConstruct":
        return [each.toIValue() for each in maker.inputs()]
    return given.toIValue()


def _likely(module: torch.nn.Module, given: Any, name: str) -> torch.Tensor | None:
    """The tensor of a module that an argument will be: the one it is read from, or where a method
    gets it from another, the one that is called so. The operator looks whether it is."""
    maker = given.node()
    found = getattr(module, maker.s("name") if maker.kind() == "prim::GetAttr" else name, None)
    return found if isinstance(found, torch.Tensor) else None


def _is_kernel(weights: torch.Tensor) -> bool:
    return weights.shape[2:] == (3, 3) and weights.dtype == torch.float32 and weights.is_cpu


def _own(weights: torch.Tensor, bias: torch.Tensor | None, beside: Path | None) -> Convolution:
    plain = weights.detach().numpy()
    added = None if bias is None else bias.detach().numpy()
    return Convolution.of(plain, added, relu=False, transformed=transformed(plain, beside))


def _replace(graph: Any, node: Any) -> None:
    own = graph.create("d2serve::convolution", [node.inputsAt(at) for at in range(3)], 1)
    own.insertBefore(node)
    own.output().setType(node.output().type())
    node.output().replaceAllUsesWith(own.output())
    node.destroy()


def _key(weights: torch.Tensor, bias: torch.Tensor | None) -> tuple[int, int]:
    return weights.data_ptr(), 0 if bias is None else bias.data_ptr()
