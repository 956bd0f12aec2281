"""Gathers the operators and weights of a network, and writes them down as Caffe2's two.

``predict`` computes; ``init`` fills the blobs of the weights before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from d2serve.export.programs.caffe2.graphs import Graph, Value, Weight
from d2serve.handlers.netdef.messages import ArgumentValue, NetDef, OperatorDef, argument
from d2serve.handlers.netdef.wire import Float32

_NAME = "detectron2"


@dataclass
class Step:
    """An operator of Caffe2's."""

    kind: str
    scope: str
    """Path of the module that it is of."""
    inputs: list[Value | Weight]
    outputs: list[Value]
    arguments: Mapping[str, ArgumentValue]


class Net:
    """A network in the making."""

    def __init__(self, graph: Graph) -> None:
        """Begin with nothing but what the graph is given."""
        self._uses = Counter(graph.taken())
        self._steps: list[Step] = []
        self._makers: dict[Value | Weight, Step] = {}
        self._same: dict[Value, Value | Weight] = {}

    def add(
        self,
        kind: str,
        scope: str,
        inputs: Sequence[Value | Weight],
        outputs: Sequence[Value],
        **arguments: ArgumentValue,
    ) -> None:
        """Append an operator.

        Args:
            kind: Caffe2's name of it.
            scope: path of the module that it is of; what no module calls belongs to the one that
                makes what it takes.
            inputs: what it takes.
            outputs: what it makes.
            arguments: Caffe2's.
        """
        known = [self.itself(each) for each in inputs]
        before = next((self.maker(each) for each in known if isinstance(each, Value)), None)
        scope = scope or (before.scope if before is not None else "")
        step = Step(kind, scope, known, list(outputs), arguments)
        self._steps.append(step)
        self._makers.update(dict.fromkeys(outputs, step))

    def let_be(self, value: Value, other: Value | Weight) -> None:
        """Let a value be the same blob as what is there already."""
        self._same[value] = self.itself(other)

    def itself(self, thing: Value | Weight) -> Value | Weight:
        """The value or weight whose blob a value is."""
        return self._same.get(thing, thing) if isinstance(thing, Value) else thing

    def uses(self, value: Value) -> int:
        """How often the graph takes a value, or answers it."""
        return self._uses[value]

    def maker(self, value: Value) -> Step | None:
        """The operator that makes a value; None of what the network is given."""
        return self._makers.get(self.itself(value))

    def written(
        self,
        inputs: Mapping[Value, str],
        outputs: Sequence[tuple[Value, str]],
        facts: Mapping[str, ArgumentValue],
    ) -> tuple[NetDef, NetDef]:
        """The two networks, ``predict`` and ``init``.

        Args:
            inputs: names of what the network is given.
            outputs: names of what it answers, in its order.
            facts: arguments of ``predict``.
        """
        blobs = _Blobs()
        for value, name in (*outputs, *inputs.items()):
            blobs.name(self.itself(value), name)
        operators = tuple(blobs.operator(step) for step in self._steps)
        predict = NetDef(
            f"{_NAME}_predict",
            operators,
            tuple(argument(name, value) for name, value in facts.items()),
            (*inputs.values(), *blobs.weights),
            tuple(name for _value, name in outputs),
        )
        filling = tuple(_filling(name, values) for name, values in blobs.weights.items())
        init = NetDef(f"{_NAME}_init", filling, external_output=tuple(blobs.weights))
        return predict, init


class _Blobs:
    """Names of blobs, no two the same."""

    def __init__(self) -> None:
        self.weights: dict[str, Float32] = {}
        self._names: dict[Value | Weight, str] = {}
        self._taken: set[str] = set()
        self._weight_names: dict[int, str] = {}

    def name(self, thing: Value | Weight, name: str) -> None:
        self._names[thing] = name
        self._taken.add(name)

    def operator(self, step: Step) -> OperatorDef:
        taken = tuple(self._read(each, step.scope) for each in step.inputs)
        made = tuple(self._made(each, step) for each in step.outputs)
        arguments = tuple(argument(name, value) for name, value in step.arguments.items())
        return OperatorDef(step.kind, taken, made, arguments, step.scope or None)

    def _made(self, value: Value, step: Step) -> str:
        if value not in self._names:
            scope = f"{step.scope}." if step.scope else ""
            self._names[value] = self._free(f"{scope}{step.kind}")
        return self._names[value]

    def _read(self, thing: Value | Weight, scope: str) -> str:
        if isinstance(thing, Value):
            return self._names[thing]
        known = self._weight_names.get(id(thing.tensor))
        if known is None:
            known = self._free(thing.path or f"{scope}.constant")
            self._weight_names[id(thing.tensor)] = known
            self.weights[known] = numbers_of(thing)
        return known

    def _free(self, name: str) -> str:
        free, number = name, 1
        while free in self._taken:
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free


def numbers_of(weight: Weight) -> Float32:
    """The numbers of a weight in single precision, as Caffe2 has them."""
    found: Float32 = weight.tensor.detach().to("cpu", torch.float32).numpy()
    return found


def _filling(name: str, values: Float32) -> OperatorDef:
    arguments = (
        argument("shape", np.array(values.shape, np.int64)),
        argument("values", values),
    )
    return OperatorDef("GivenTensorFill", output=(name,), arg=arguments)
