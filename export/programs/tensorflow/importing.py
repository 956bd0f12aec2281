"""Walks an ONNX graph and has TensorFlow compute each of its nodes.

What no image changes is computed here and now. Without that, shapes and axes would be tensors, of
which TensorFlow must know the numbers before it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import tensorflow as tf

from d2serve.export.errors import ExportError, ProgramError, one_line
from d2serve.export.programs.tensorflow.operators import OPERATORS
from d2serve.export.programs.tensorflow.values import Constant, Node, Value, Weights

CONSTANT, IF = "Constant", "If"
Scope = dict[str, Value]


class Program:
    """An ONNX program, ready to be computed with TensorFlow's tensors."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        """Read all that does not depend on an image.

        Raises:
            ProgramError: it has operators that are not in ``OPERATORS``; the message names them.
        """
        _refuse_unknown(proto.graph)
        self.weights = Weights()
        self.graph = proto.graph
        self._ranks = _ranks_in(onnx.shape_inference.infer_shapes(proto, data_prop=True).graph)

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors by the names of the program's outputs, for those by the names of its inputs."""
        scope = {name: Value(tensor) for name, tensor in inputs.items()}
        answers = self._run(self.graph, scope)
        return {output.name: answer for output, answer in zip(self.graph.output, answers)}

    def _run(self, graph: onnx.GraphProto, outer: Scope) -> list[Any]:
        scope = {**outer, **_initial(graph)}
        for node in graph.node:
            compute = self._branch if node.op_type == IF else self._compute
            made = compute(node, scope)
            for name, value in zip(node.output, made):
                scope[name] = self._of_known_rank(name, value)
        node = self._node(onnx.NodeProto(op_type="Identity"), ())
        return [tf.convert_to_tensor(node.ordered(scope[each.name])) for each in graph.output]

    def _compute(self, proto: onnx.NodeProto, scope: Scope) -> list[Value]:
        if proto.op_type == CONSTANT:
            return [Value(_constant(proto))]
        values = [scope[name] if name else None for name in proto.input]
        known = all(value is None or value.constant is not None for value in values)
        node = self._node(proto, values, computed_now=known)
        try:
            if known:
                with tf.init_scope():
                    return [Value(np.asarray(each.data)) for each in _values(node)]
            return _values(node)
        except ExportError:
            raise
        except Exception as error:  # TensorFlow raises its own, and ValueError and TypeError
            raise node.refusal(f"TensorFlow says: {one_line(error)}") from error

    def _node(
        self,
        proto: onnx.NodeProto,
        values: Sequence[Value | None],
        computed_now: bool = False,
    ) -> Node:
        attributes = {
            each.name: onnx.helper.get_attribute_value(each)
            for each in proto.attribute
            if each.type != onnx.AttributeProto.GRAPH
        }
        weights = None if computed_now else self.weights
        name = _name_of(proto)
        return Node(proto.op_type, name, attributes, values, len(proto.output), weights)

    def _branch(self, proto: onnx.NodeProto, scope: Scope) -> list[Value]:
        branches = {each.name: each.g for each in proto.attribute}
        asked = scope[proto.input[0]]
        if asked.constant is not None:
            chosen = branches["then_branch" if asked.constant.all() else "else_branch"]
            return list(map(Value, self._run(chosen, scope)))
        answers = tf.cond(
            tf.reshape(asked.data, []),
            lambda: self._run(branches["then_branch"], scope),
            lambda: self._run(branches["else_branch"], scope),
        )
        return list(map(Value, answers))

    def _of_known_rank(self, name: str, value: Value) -> Value:
        rank = self._ranks.get(name)
        if value.constant is None and value.rank is None and rank is not None:
            value.data.set_shape([None] * rank)
        return value


def _values(node: Node) -> list[Value]:
    made = OPERATORS[node.operator](node)
    several = made if isinstance(made, (list, tuple)) else [made]
    return [each if isinstance(each, Value) else Value(each) for each in several]


def _initial(graph: onnx.GraphProto) -> Scope:
    return {each.name: Value(onnx.numpy_helper.to_array(each)) for each in graph.initializer}


def _constant(proto: onnx.NodeProto) -> Constant:
    (attribute,) = proto.attribute
    given = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        found: Constant = onnx.numpy_helper.to_array(given)
        return found
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(given, np.int64)
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(given, np.float32)
    raise ProgramError(
        f"TensorFlow cannot read the ONNX constant {_name_of(proto)} ({attribute.name}): numbers "
        "are expected. Use --format onnx, or --format torchscript."
    )


def _refuse_unknown(graph: onnx.GraphProto) -> None:
    unknown: dict[str, str] = {}
    for each in _graphs(graph):
        for node in each.node:
            named = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            if named not in OPERATORS and named not in (CONSTANT, IF):
                unknown.setdefault(named, _name_of(node))
    if unknown:
        listed = ", ".join(f"{operator} (node {name})" for operator, name in unknown.items())
        raise ProgramError(
            f"No TensorFlow program can be made: it would have to compute the ONNX "
            f"operator{'s' if len(unknown) > 1 else ''} {listed}, which the conversion does not "
            "know. Use --format onnx, or --format torchscript."
        )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _ranks_in(graph: onnx.GraphProto) -> dict[str, int]:
    return {
        info.name: len(info.type.tensor_type.shape.dim)
        for each in _graphs(graph)
        for info in (*each.value_info, *each.output)
        if info.type.tensor_type.HasField("shape")
    }


def _name_of(proto: onnx.NodeProto) -> str:
    return proto.name or (proto.output[0] if proto.output else "without a name")
