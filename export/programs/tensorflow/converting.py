"""Converts an ONNX program to TensorFlow, to be saved as a SavedModel or as a frozen graph.

Converters that exist fail on detectron2's programs or, once, wrote a program that cannot run and
said nothing.
"""

from __future__ import annotations

from pathlib import Path

from d2serve.export.errors import ProgramError


class Converted:
    """A TensorFlow program with the names of its ONNX program's inputs and outputs."""

    def save(self, folder: Path) -> None:
        """Write a SavedModel, its signature named ``serving_default``, into an empty folder."""
        raise ProgramError(f"TensorFlow programs are not written yet; got {folder}.")

    def freeze(self, file: Path) -> None:
        """Write one ``.pb`` with the weights in it as constants."""
        raise ProgramError(f"TensorFlow programs are not written yet; got {file}.")


def convert(onnx_path: Path) -> Converted:
    """The TensorFlow program of an ONNX program, in fp32, for any height and width.

    Args:
        onnx_path: the ``.onnx`` file, as ``write_onnx`` makes it; it is left as it is.

    Raises:
        ProgramError: naming the operator, and the node, that TensorFlow cannot compute.
    """
    raise ProgramError(f"TensorFlow programs are not written yet; got {onnx_path}.")
