"""Converts an ONNX program to TensorFlow, to be saved as a SavedModel or as a frozen graph.

Converters that exist fail on detectron2's programs or, once, wrote a program that cannot run and
said nothing. The program is one function for images of any height and width: TensorFlow traces it
once, and never again for an image of another size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from d2serve.export.errors import ProgramError, one_line
from d2serve.export.failures import nothing_printed
from d2serve.export.programs.onnx import OPSET
from d2serve.export.programs.tensorflow.importing import Program

SIGNATURE = "serving_default"
"""Where TensorFlow Serving, too, looks for the function of a SavedModel."""


class Converted(tf.Module):  # type: ignore[misc]
    """A TensorFlow program with the names of its ONNX program's inputs and outputs."""

    def __init__(self, program: Program) -> None:
        """Trace a program.

        Raises:
            ProgramError: TensorFlow cannot compute one of its operators; the message names it.
        """
        super().__init__(name="program")
        given = [_specification(each) for each in program.graph.input]

        def answer(*tensors: Any) -> dict[str, Any]:
            answers = program({each.name: tensor for each, tensor in zip(given, tensors)})
            return {name: tf.identity(each, name=name) for name, each in answers.items()}

        traced = tf.function(answer, input_signature=given, autograph=False)
        self.function = traced.get_concrete_function()
        self.weights = program.weights.all

    def save(self, folder: Path) -> None:
        """Write a SavedModel, its signature named ``serving_default``, into an empty folder."""
        with nothing_printed():
            tf.saved_model.save(self, str(folder), signatures={SIGNATURE: self.function})
        # Optional, and drawn by lot: two exports would differ in it.
        (folder / "fingerprint.pb").unlink(missing_ok=True)

    def freeze(self, file: Path) -> None:
        """Write one ``.pb`` with the weights in it as constants.

        Its inputs and outputs are the tensors ``NAME:0``.
        """
        with nothing_printed():
            frozen = convert_variables_to_constants_v2(self.function)
        file.write_bytes(frozen.graph.as_graph_def().SerializeToString(deterministic=True))


def convert(onnx_path: Path) -> Converted:
    """The TensorFlow program of an ONNX program, in fp32, for any height and width.

    Args:
        onnx_path: the ``.onnx`` file, as ``write_onnx`` makes it; it is left as it is.

    Raises:
        ProgramError: naming the operator, and the node, that TensorFlow cannot compute.
    """
    proto = onnx.load(onnx_path)
    versions = [each.version for each in proto.opset_import if each.domain in ("", "ai.onnx")]
    if versions != [OPSET]:
        raise ProgramError(
            f"{onnx_path.name} is in ONNX opset {versions}, and programs for TensorFlow are made "
            f"from opset {OPSET}. Export the model again."
        )
    try:
        with nothing_printed():
            return Converted(Program(proto))
    except ProgramError:
        raise
    except Exception as error:  # TensorFlow raises its own, without a common base
        raise ProgramError(
            f"TensorFlow {tf.__version__} cannot hold the program ({one_line(error)}). "
            "Use --format onnx, or --format torchscript."
        ) from error


def _specification(given: onnx.ValueInfoProto) -> Any:
    kind = given.type.tensor_type
    shape = [size.dim_value or None for size in kind.shape.dim]
    return tf.TensorSpec(shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), given.name)
