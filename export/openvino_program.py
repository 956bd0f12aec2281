"""Why: OpenVINO's own format loads faster than ONNX, and is what a lower precision is made from."""

from __future__ import annotations

from pathlib import Path

import openvino

from d2serve.export.errors import ProgramError, one_line

MAIN_FILE = "model.xml"


def convert(onnx_file: Path) -> openvino.Model:
    """Read a checked ONNX program as an OpenVINO model.

    Raises:
        ProgramError: it has an operator that OpenVINO does not.
    """
    try:
        model = openvino.convert_model(str(onnx_file))
    except Exception as error:  # OpenVINO raises its own, without a common base
        raise ProgramError(
            f"OpenVINO {openvino.__version__} cannot read the ONNX program ({one_line(error)}). "
            "Use --runtime onnxruntime."
        ) from error
    return model


def save(model: openvino.Model, folder: Path) -> Path:
    """Write a model as model.xml and model.bin.

    Returns:
        The main file, model.xml.
    """
    main = folder / MAIN_FILE
    # Weights in half precision would change answers.
    openvino.save_model(model, str(main), compress_to_fp16=False)
    return main
