"""Programs of one ONNX operator, answered by ONNX Runtime and by what TensorFlow makes of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import tensorflow as tf
from onnx import TensorProto, helper

from d2serve.export.programs.onnx import OPSET
from d2serve.export.programs.tensorflow.converting import Converted
from d2serve.export.programs.tensorflow.importing import Program

Given = npt.NDArray[Any]


def program_of(
    operator: str,
    given: Sequence[Given | None],
    attributes: dict[str, Any] | None = None,
    known: Collection[int] = (),
    channels_last: Collection[int] = (),
    outputs: int = 1,
    tuples: Collection[int] = (),
) -> onnx.ModelProto:
    """An ONNX program of one operator, for inputs of any size.

    Args:
        operator: ONNX's name.
        given: what it is given; None for what is left out.
        attributes: of the node.
        known: indices of inputs that stand in the program.
        channels_last: of those that come out of a convolution, which changes nothing in them.
        outputs: how many are asked for.
        tuples: indices of inputs of whose last axis the size is known.
    """
    names = [f"x{index}" if each is not None else "" for index, each in enumerate(given)]
    nodes, initial, inputs = [], [], []
    for index, array in enumerate(given):
        if array is None:
            continue
        if index in known:
            initial.append(onnx.numpy_helper.from_array(array, names[index]))
            continue
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        shape: list[str | int] = [f"d{index}_{axis}" for axis in range(array.ndim)]
        if index in tuples:
            shape[-1] = array.shape[-1]
        inputs.append(helper.make_tensor_value_info(names[index], kind, shape))
        if index in channels_last:
            same = np.eye(array.shape[1], dtype=np.float32)[:, :, None, None]
            initial.append(onnx.numpy_helper.from_array(same, f"same{index}"))
            made = f"convolved{index}"
            nodes.append(helper.make_node("Conv", [names[index], f"same{index}"], [made]))
            names[index] = made
    asked = [f"y{index}" for index in range(outputs)]
    nodes.append(helper.make_node(operator, names, asked, name="the_node", **(attributes or {})))
    untyped = [onnx.ValueInfoProto(name=name) for name in asked]
    graph = helper.make_graph(nodes, "one", inputs, untyped, initial)
    made_program = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
    )
    types = {
        each.name: each
        for each in onnx.shape_inference.infer_shapes(made_program).graph.output
        if each.type.tensor_type.elem_type != TensorProto.UNDEFINED
    }
    assert types.keys() == set(asked)
    del graph.output[:]
    made_program.graph.ClearField("output")
    made_program.graph.output.extend(types[name] for name in asked)
    return made_program


def answers_of(
    program: onnx.ModelProto, given: Sequence[Given | None]
) -> tuple[list[Given], list[Given]]:
    """What ONNX Runtime answers and what TensorFlow answers."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(program.SerializeToString(), options)
    feed = {each.name: given[int(each.name[1:])] for each in program.graph.input}
    expected = session.run(None, feed)
    got = Converted(Program(program)).function(
        **{name: tf.constant(array) for name, array in feed.items()}
    )
    return expected, [got[each.name].numpy() for each in program.graph.output]


def assert_same(
    operator: str,
    given: Sequence[Given | None],
    attributes: dict[str, Any] | None = None,
    known: Collection[int] = (),
    channels_last: Collection[int] = (),
    outputs: int = 1,
    tuples: Collection[int] = (),
    within: float = 1e-5,
) -> list[Given]:
    """TensorFlow answers as ONNX Runtime does: types, shapes, and values within a bound.

    See ``program_of`` for the arguments. Floats may differ by ``within`` times 1 or their size.

    Returns:
        ONNX Runtime's answers.
    """
    program = program_of(operator, given, attributes, known, channels_last, outputs, tuples)
    expected, got = answers_of(program, given)
    for one, other in zip(expected, got):
        assert (other.dtype, other.shape) == (one.dtype, one.shape)
        if one.dtype.kind == "f":
            np.testing.assert_allclose(other, one, rtol=within, atol=within)
        else:
            np.testing.assert_array_equal(other, one)
    return expected


def drawn(seed: int, *shape: int) -> Given:
    """Floats around 0."""
    return np.asarray(np.random.default_rng(seed).normal(0, 2, shape), np.float32)


def whole(seed: int, least: int, most: int, *shape: int) -> Given:
    """int64 from ``least`` to ``most``, without it."""
    return np.asarray(np.random.default_rng(seed).integers(least, most, shape))
