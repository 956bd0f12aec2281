"""Why: each runtime wants its program in files of its own; the rest of an export need not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import nn

from d2serve.export.device_scan import check_no_device
from d2serve.export.families import Family
from d2serve.export.onnx_program import write_onnx
from d2serve.export.request import ExportRequest
from d2serve.export.scripting import script
from d2serve.export.tracing import trace
from d2serve.handlers.model_spec import (
    HEATMAPS,
    KEYPOINTS,
    ONNXRUNTIME,
    SCRIPTING,
    TORCHSCRIPT,
    sha256_of,
)

_MAIN_FILE = {TORCHSCRIPT: "model.pt", ONNXRUNTIME: "model.onnx"}


@dataclass(frozen=True)
class Program:
    """The files of a program, alone in a folder."""

    main: Path
    outputs: tuple[str, ...]
    """Names of what it answers, in its order."""
    doubts: tuple[str, ...]
    """Places in the user's code that a trace may have turned into constants."""

    @property
    def files(self) -> list[Path]:
        """All of them, the main one first."""
        others = sorted(file for file in self.main.parent.iterdir() if file != self.main)
        return [self.main, *others]

    def hashes(self) -> dict[str, str]:
        """SHA-256 by file name."""
        return {file.name: sha256_of(file) for file in self.files}


def write_program(
    request: ExportRequest,
    model: nn.Module,
    family: Family,
    image: torch.Tensor,
    folder: Path,
    metadata: Mapping[str, object],
) -> Program:
    """Make the program that a request asks for, in fp32.

    Args:
        request: with its method and runtime.
        model: detectron2's, in evaluation mode.
        family: what it is.
        image: (3, H, W) float32, as the program will get it, with detections in it.
        folder: an empty folder.
        metadata: what an ONNX file says of itself.

    Raises:
        ProgramError: the model cannot be exported this way; the message names the line.
    """
    if request.format == TORCHSCRIPT:
        made = script(model, family) if request.method == SCRIPTING else trace(model, family, image)
        check_no_device(made.module)
        main = folder / _MAIN_FILE[TORCHSCRIPT]
        torch.jit.save(made.module, main)
        return Program(main, family.outputs, made.doubts)
    family = _onnx_family(family)
    main = folder / _MAIN_FILE[ONNXRUNTIME]
    doubts = write_onnx(model, family, image, main, metadata)
    if request.chosen_runtime == ONNXRUNTIME:
        return Program(main, family.outputs, doubts)
    from d2serve.export.openvino_program import from_onnx, save  # brings OpenVINO

    converted = from_onnx(main)
    main.unlink()
    return Program(save(converted, folder), family.outputs, doubts)


def onnx_metadata(cfg: CfgNode, family: Family, names: tuple[str, ...] | None) -> dict[str, object]:
    """What whoever has only the .onnx file must know, in the terms of model_spec.json."""
    return {
        "family": family.name,
        "image_format": cfg.INPUT.FORMAT,
        "min_size_test": cfg.INPUT.MIN_SIZE_TEST,
        "max_size_test": cfg.INPUT.MAX_SIZE_TEST,
        "outputs": list(_onnx_family(family).outputs),
        "class_names": None if names is None else list(names),
        "score_thresh": family.score_thresh,
        "nms_thresh": family.nms_thresh,
        "input": "(3, height, width) float32, 0 to 255, resized as ResizeShortestEdge does; "
        "normalisation and padding are inside",
        "coordinates": "pixels of the resized image; pred_masks are probabilities over each box",
    }


def _onnx_family(family: Family) -> Family:
    names = (HEATMAPS if name == KEYPOINTS else name for name in family.outputs)
    return replace(family, outputs=tuple(names))
