"""The ways of serving that are measured: one table says how each is made and judged.

A side that is d2serve's has the fields of ``ExportRequest`` that make its archive; the others are
what people use today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

EAGER, FASTAPI, TORCHVISION = "eager", "fastapi", "torchvision-example"
CPP = "cpp"
TRACING, SCRIPTING = "tracing", "scripting"
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
ONNXRUNTIME_DIRECT, OPENVINO_DIRECT = "onnxruntime-direct", "openvino-direct"
OPENVINO_BF16, OPENVINO_INT8 = "openvino-bf16", "openvino-int8"

Precision = Literal["fp32", "bf16", "int8"]


@dataclass(frozen=True)
class Bounds:
    """How near to eager detectron2's answer a side must be."""

    box_px: float
    score: float
    mask_iou: float
    share: float
    """Of the instances that must be within them; the run stops below."""


# Those to which d2serve's exports are held. A random model's candidates are nearly tied, so where
# sums are formed in another order one of a hundred may give way to another: hence the share.
_SAME = Bounds(box_px=0.01, score=1e-4, mask_iou=1.0, share=1.0)
_NEAR = Bounds(box_px=0.01, score=1e-3, mask_iou=0.999, share=0.9)
# Lower precision changes what a model of random weights finds: it is reported, nothing is asked.
_TOLD = Bounds(box_px=0.01, score=1e-3, mask_iou=0.999, share=0.0)


@dataclass(frozen=True)
class Side:
    """One way of serving."""

    label: str
    bounds: Bounds | None
    """None where there is no answer to compare: eager's own, and that of another model."""
    export: Mapping[str, str] = field(default_factory=dict)
    """Fields of ExportRequest; empty where no server of d2serve serves it."""
    made_of: str | None = None
    """The side whose archive is changed, or only taken, for this one; None where it has its own."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What the model-config.yaml of its archive says in addition."""

    @property
    def is_ours(self) -> bool:
        """Whether it is an archive of d2serve."""
        return bool(self.export)

    @property
    def precision(self) -> Precision:
        """In which the model computes."""
        name = self.export.get("precision", "fp32")
        return "bf16" if name == "bf16" else "int8" if name == "int8" else "fp32"


def _onnx(runtime: str, precision: str) -> dict[str, str]:
    return {"method": "tracing", "format": "onnx", "runtime": runtime, "precision": precision}


_DIRECT = {"convolution": "direct"}

SIDES: Mapping[str, Side] = {
    EAGER: Side("eager detectron2", None),
    FASTAPI: Side("FastAPI + DefaultPredictor", _SAME),
    TORCHVISION: Side("torchvision example", None),
    TRACING: Side("d2serve tracing", _SAME, {"method": "tracing"}),
    SCRIPTING: Side("d2serve scripting", _SAME, {"method": "scripting"}),
    ONNXRUNTIME_DIRECT: Side(
        "d2serve ONNX Runtime, direct",
        _NEAR,
        _onnx("onnxruntime", "fp32"),
        ONNXRUNTIME,
        _DIRECT,
    ),
    ONNXRUNTIME: Side("d2serve ONNX Runtime", _NEAR, _onnx("onnxruntime", "fp32")),
    OPENVINO_DIRECT: Side(
        "d2serve OpenVINO, direct", _NEAR, _onnx("openvino", "fp32"), OPENVINO, _DIRECT
    ),
    OPENVINO: Side("d2serve OpenVINO", _NEAR, _onnx("openvino", "fp32")),
    OPENVINO_BF16: Side("d2serve OpenVINO bf16", _TOLD, _onnx("openvino", "bf16"), OPENVINO),
    OPENVINO_INT8: Side("d2serve OpenVINO int8", _TOLD, _onnx("openvino", "int8"), OPENVINO),
    CPP: Side("d2serve C++, OpenVINO", _NEAR, made_of=OPENVINO),
}

USUAL = (
    *(EAGER, TRACING, ONNXRUNTIME_DIRECT, ONNXRUNTIME, OPENVINO_DIRECT, OPENVINO),
    *(OPENVINO_BF16, OPENVINO_INT8, CPP),
)
"""Those of ``make bench``; ``make bench-all`` has all: docs/decisions/0038-what-is-measured.md."""

WINOGRAD_AND_DIRECT = ((ONNXRUNTIME, ONNXRUNTIME_DIRECT), (OPENVINO, OPENVINO_DIRECT))
"""Sides that differ by how convolutions are computed, and by nothing else."""

RUNTIMES = (TRACING, ONNXRUNTIME, OPENVINO)
"""Sides that stand for the three runtimes where precision does not matter."""
