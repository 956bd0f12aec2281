"""Norms: a batch norm after a convolution becomes part of its weights, as upstream's tracer did.

For y = (conv(x) - mean) / sqrt(var + eps) * gamma + beta is a convolution again, equal within
rounding. Another batch norm is a Mul and an Add; a group norm Caffe2 has.
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2serve.export.programs.caffe2.graphs import Call, Value, Weight
from d2serve.export.programs.caffe2.nets import Net, Step
from d2serve.export.programs.caffe2.strictness import require


def batch_norm(net: Net, call: Call) -> None:
    """Fold it into the convolution before, if nothing else takes that one's answer."""
    given = call.arguments
    require(not given["training"], "training")
    stated = [given[name] for name in ("running_mean", "running_var", "weight", "bias")]
    require(all(each is None or isinstance(each, Weight) for each in stated), "computed statistics")
    require(isinstance(stated[1], Weight), "no running statistics")
    mean, var, weight, bias = (each and each.tensor.double() for each in stated)
    scale = torch.rsqrt(var + given["eps"]) * (1.0 if weight is None else weight)
    shift = (0.0 if bias is None else bias) - mean * scale
    value: Value = given["input"]
    before = net.maker(value)
    if before is not None and before.kind == "Conv" and net.uses(value) == 1:
        _fold(before, scale, shift)
        net.let_be(call.outputs[0], value)
        return
    ones = (1,) * ((value.rank or 0) - 2)
    scaled = Value(f"{call.outputs[0].name}.scaled", value.rank)
    factor, added = (Weight("", each.float().reshape(-1, *ones)) for each in (scale, shift))
    net.add("Mul", call.scope, [value, factor], [scaled])
    net.add("Add", call.scope, [scaled, added], call.outputs)


def _fold(convolution: Step, scale: Tensor, shift: Tensor) -> None:
    _value, weight, *bias = convolution.inputs
    if not isinstance(weight, Weight):
        raise TypeError("the weights of a convolution are no weights")
    folded = weight.tensor.double() * scale[:, None, None, None]
    added = shift
    for each in bias:
        if isinstance(each, Weight):
            added = added + each.tensor.double() * scale
    convolution.inputs[1:] = [
        Weight(weight.path, folded.float()),
        Weight(weight.path.replace(".weight", ".bias"), added.float()),
    ]


def group_norm(net: Net, call: Call) -> None:
    """GroupNorm."""
    given = call.arguments
    require(given["weight"] is not None and given["bias"] is not None, "no weights")
    net.add(
        "GroupNorm",
        call.scope,
        [given["input"], given["weight"], given["bias"]],
        call.outputs,
        group=int(given["num_groups"]),
        epsilon=float(given["eps"]),
    )
