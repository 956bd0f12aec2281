"""Small ONNX programs for tests, and what they answer with native layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from d2serve.kernels.onnxruntime.program import WinogradProgram


class Drawing:
    """Writes a program node by node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, *shape: int) -> str:
        random = np.random.default_rng(len(self.constants))
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        self.constants.append(
            numpy_helper.from_array(values.astype(np.float32), f"c{len(self.constants)}")
        )
        return self.constants[-1].name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        made = helper.make_node(operator, inputs, [f"v{len(self.nodes)}"], **attributes)
        self.nodes.append(made)
        return str(made.output[0])

    def conv(
        self, x: str, weights: str, bias: str | None = None, pad: int = 1, **other: object
    ) -> str:
        given = (x, weights) if bias is None else (x, weights, bias)
        return self.add("Conv", *given, pads=[pad] * 4, **other)

    def save(self, file: Path, channels: int | str, outputs: list[str]) -> Path:
        images = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, "h", "w"])
        ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, None) for each in outputs]
        graph = helper.make_graph(self.nodes, "g", [images], ends, self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(made, file)
        return file


def options(threads: int) -> onnxruntime.SessionOptions:
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = threads
    return made


def own_answers(
    program: WinogradProgram, images: list[NDArray[np.float32]], threads: int
) -> list[list[NDArray[np.float32]]]:
    own = options(threads)
    session = onnxruntime.InferenceSession(program.edited(own, threads), own)
    return [session.run(None, {"x": each}) for each in images]


def drawn(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32) * 100


def assert_answers_stay(
    file: Path, program: WinogradProgram, images: list[NDArray[np.float32]], threads: int
) -> None:
    """ONNX Runtime's own layers answer the same, up to rounding."""
    direct = onnxruntime.InferenceSession(str(file))
    for each, got in zip(images, own_answers(program, images, threads), strict=True):
        for mine, expected in zip(got, direct.run(None, {"x": each}), strict=True):
            assert mine.shape == expected.shape
            assert abs(expected).max() > 0.1
            np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-4 * abs(expected).max())
