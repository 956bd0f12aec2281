"""What is asked of a GPU, in one place, so that a test can ask a CPU for less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_ONNX = {"method": "tracing", "format": "onnx"}


@dataclass(frozen=True)
class Form:
    """One way to a program for a GPU."""

    label: str
    export: Mapping[str, str]
    """Fields of ExportRequest."""

    @property
    def precision(self) -> str:
        """In which its network runs."""
        return self.export.get("precision", "fp32")


FORMS: Mapping[str, Form] = {
    "tracing": Form("TorchScript, traced", {"method": "tracing"}),
    "scripting": Form("TorchScript, scripted", {"method": "scripting"}),
    "onnxruntime": Form("ONNX Runtime", {**_ONNX, "runtime": "onnxruntime"}),
    "tensorrt": Form("TensorRT", {**_ONNX, "runtime": "tensorrt"}),
    "tensorrt_fp16": Form("TensorRT fp16", {**_ONNX, "runtime": "tensorrt", "precision": "fp16"}),
}


@dataclass(frozen=True)
class GpuPlan:
    """One run."""

    device: str = "cuda:0"
    forms: tuple[str, ...] = tuple(FORMS)
    models: tuple[str, ...] = (
        "mask_rcnn_fpn",
        "keypoint_rcnn_fpn",
        "cascade_mask_rcnn_fpn",
        "retinanet",
    )
    """Trained example models, whose answers are compared."""
    images: int = 24
    """Held-out images, of many sizes."""
    batches: tuple[int, ...] = (1, 2, 5, 8)
    """Sizes of the batches in which the images are asked, mixed sizes in each."""
    zoo_name: str = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
    """Whose full-size model, with random weights, is timed."""
    overrides: tuple[str | int, ...] = ()
    picture_size: tuple[int, int] = (1080, 1439)
    export_size: tuple[int, int] = (192, 256)
    """Short and longest edge at which the timed programs are exported and checked."""
    timed_batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    rounds: int = 5
    seed: int = 0
