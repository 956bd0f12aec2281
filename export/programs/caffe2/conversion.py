"""Writes each operator of a trace as Caffe2's, or says which module has one that Caffe2 lacks."""

from __future__ import annotations

from torch import nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.programs.caffe2.graphs import Call, Graph, Value, Weight
from d2serve.export.programs.caffe2.layers import LAYERS
from d2serve.export.programs.caffe2.nets import Net
from d2serve.export.programs.caffe2.operators import NAMESPACE, SCOPE
from d2serve.export.programs.caffe2.strictness import NotInCaffe2

_OURS = f"{NAMESPACE}::"


def converted(graph: Graph, model: nn.Module) -> Net:
    """The network of a graph.

    Args:
        graph: what was traced.
        model: whose modules are named where Caffe2 lacks an operator.

    Raises:
        UnsupportedFamily: naming the module and the operator.
    """
    net = Net(graph)
    for call in graph.calls:
        if call.kind.startswith(_OURS):
            _detection(net, call)
            continue
        convert = LAYERS.get(call.kind.removesuffix("_"))
        if convert is None:
            raise UnsupportedFamily(_refusal(call, model, ""))
        try:
            convert(net, call)
        except NotInCaffe2 as error:
            raise UnsupportedFamily(_refusal(call, model, f" with {error}")) from None
    return net


def _detection(net: Net, call: Call) -> None:
    arguments = dict(call.arguments)
    scope = arguments.pop(SCOPE)
    tensors: list[Value | Weight] = []
    for name, value in call.arguments.items():
        if isinstance(value, (Value, Weight)):
            tensors.append(arguments.pop(name))
        elif isinstance(value, list) and isinstance(value[0], Value):
            tensors += arguments.pop(name)
    net.add(call.kind.removeprefix(_OURS), scope, tensors, call.outputs, **arguments)


def _refusal(call: Call, model: nn.Module, more: str) -> str:
    path = call.scope
    where = f"{path} ({type(model.get_submodule(path)).__name__})" if path else "The model"
    return (
        f"{where} cannot be exported for Caffe2: it calls {call.kind}{more}, for which Caffe2 has "
        "no operator. Use --format onnx or --format torchscript."
    )
