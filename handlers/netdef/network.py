"""Runs a network of Caffe2's operators on torch, one operator after the other.

What can be refused is refused at load: an operator that is not run, an argument that changes its
meaning, an input that nothing gives. A tensor is let go as soon as no later operator takes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from d2serve.handlers.errors import LoadError, ModelFailed
from d2serve.handlers.netdef.arguments import ArgumentError, Arguments
from d2serve.handlers.netdef.files import NET_FILE, WEIGHTS_FILE
from d2serve.handlers.netdef.messages import NetDef, OperatorDef
from d2serve.handlers.netdef.operators.making import Step
from d2serve.handlers.netdef.operators.table import OPERATORS

OBJECTIONS = (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What torch raises at shapes that do not fit, an axis that is not there, too large a number;
ArgumentError is one of them."""


@dataclass(frozen=True)
class _Operation:
    """One operator of a net, ready to run."""

    type: str
    step: Step
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last_used: tuple[str, ...] = ()
    """Tensors that no later operator takes."""

    def run(self, blobs: dict[str, Tensor]) -> None:
        """Add the outputs to the tensors that there are, and let go what was used last."""
        try:
            made = self.step(*(blobs[name] for name in self.inputs))
            made = made if isinstance(made, tuple) else (made,)
            if len(made) < len(self.outputs):
                raise ArgumentError(f"it makes {len(made)} of {len(self.outputs)} outputs")
        except OBJECTIONS as error:
            raise ModelFailed(
                f"The operator {self.type} that makes {self.outputs[0]!r} failed "
                f"({' '.join(str(error).split())[:200]})."
            ) from error
        blobs.update(zip(self.outputs, made))
        for name in self.last_used:
            blobs.pop(name, None)


class Network:
    """A network with its weights; any number of threads may run it."""

    def __init__(self, net: NetDef, fills: NetDef) -> None:
        """
        Args:
            net: the network.
            fills: the net that fills its weights.

        Raises:
            LoadError: the network cannot be run; the message says why.
        """
        self.arguments = Arguments(net.arg)
        self.outputs = net.external_output
        self._weights = _weights(fills)
        self._operations = _operations(net, NET_FILE)
        self.inputs = tuple(name for name in net.external_input if name not in self._weights)
        _check_names(self._operations, {*self._weights, *self.inputs}, self.outputs)
        self._operations = _with_last_uses(
            self._operations, {*self._weights, *self.inputs, *self.outputs}
        )

    def run(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """The outputs by name.

        Args:
            inputs: as ``self.inputs`` names them.

        Raises:
            ModelFailed: an operator cannot take what it gets.
        """
        blobs = {**self._weights, **dict(zip(self.inputs, inputs))}
        with torch.inference_mode():
            for each in self._operations:
                each.run(blobs)
        return {name: blobs[name] for name in self.outputs}

    def constant_beside(self, operator: str, name: str) -> Tensor | None:
        """The weight that the first operator of a type takes with a tensor, if there is one."""
        for each in self._operations:
            if each.type == operator and each.inputs[0] == name:
                return self._weights.get(each.inputs[1])
        return None


def _weights(fills: NetDef) -> Mapping[str, Tensor]:
    blobs: dict[str, Tensor] = {}
    for each in _operations(fills, WEIGHTS_FILE):
        each.run(blobs)
    return blobs


def _operations(net: NetDef, file: str) -> list[_Operation]:
    missing = sorted({str(each.type) for each in net.op} - OPERATORS.keys())
    if missing:
        raise LoadError(
            f"{file} uses {_listed(missing)}, which d2serve does not run. Export the model from "
            "its config and weights (`d2serve export`), or run the file in Caffe2 itself."
        )
    return [_operation(each, file) for each in net.op]


def _listed(missing: Sequence[str]) -> str:
    kind = "the operator" if len(missing) == 1 else "the operators"
    return f"{kind} {', '.join(missing)}"


def _operation(definition: OperatorDef, file: str) -> _Operation:
    type_ = str(definition.type)
    try:
        step = OPERATORS[type_](Arguments(definition.arg))
    except OBJECTIONS as error:
        raise LoadError(
            f"{file}: the operator {type_} that makes {definition.output[0]!r} cannot be run: "
            f"{' '.join(str(error).split())[:200]}."
        ) from None
    return _Operation(type_, step, definition.input, definition.output)


def _check_names(operations: Iterable[_Operation], given: set[str], outputs: Sequence[str]) -> None:
    known = set(given)
    for each in operations:
        unknown = [name for name in each.inputs if name not in known]
        if unknown:
            raise LoadError(
                f"{NET_FILE}: the operator {each.type} takes {unknown[0]!r}, which no operator "
                f"before it, no input and no weight of {WEIGHTS_FILE} is. Are the two files of one "
                "export?"
            )
        known.update(each.outputs)
    lacking = [name for name in outputs if name not in known]
    if lacking:
        raise LoadError(
            f"{NET_FILE} names the output {lacking[0]!r}, which no operator makes: it is damaged."
        )


def _with_last_uses(operations: Sequence[_Operation], kept: set[str]) -> list[_Operation]:
    """The operations, each knowing which tensors are not taken after it."""
    seen = set(kept)
    found = []
    for each in reversed(operations):
        last = {name for name in (*each.inputs, *each.outputs) if name not in seen}
        found.append(replace(each, last_used=tuple(sorted(last))))
        seen |= last
    return found[::-1]
