"""What a user asks of an export, checked as a whole before any work begins."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ConfigSource
from d2serve.handlers.spec.model_spec import (
    FP32,
    INT8,
    ONNXRUNTIME,
    OPENVINO,
    PRECISIONS,
    SCRIPTING,
    TORCHSCRIPT,
    TRACING,
)

METHODS = (TRACING, SCRIPTING)
ONNX = "onnx"
FORMATS = (TORCHSCRIPT, ONNX)
RUNTIMES_OF = {TORCHSCRIPT: (TORCHSCRIPT,), ONNX: (ONNXRUNTIME, OPENVINO)}

# As torch-model-archiver permits for names, and TorchServe's addresses for both.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-.]*")

Report = Callable[[str, int], None]
"""Told the name of each step as it begins, and of how many parts it consists (0: not known)."""


@dataclass(frozen=True)
class Progress:
    """Where an export tells how far it is."""

    begin: Report
    advance: Callable[[], None]


@dataclass(frozen=True)
class ExportRequest:
    """What a user asks for; the fields are the command's options."""

    source: ConfigSource
    method: str
    name: str
    version: str = "1.0"
    sample_image: Path | None = None
    class_names: Sequence[str] | None = None
    stuff_class_names: Sequence[str] | None = None
    """Of the labels of sem_seg."""
    output: Path = Path("model_store")
    format: str = TORCHSCRIPT
    runtime: str | None = None
    """None is the format's own: torchscript, or onnxruntime for ONNX."""
    precision: str = FP32
    calibration_images: Path | None = None
    """Folder of the images for int8; None takes those of DATASETS.TRAIN."""
    dataset: tuple[Path, Path] | None = None
    """COCO annotations and their image folder, to compare the AP of a lower precision with fp32's;
    None takes DATASETS.TEST."""
    max_ap_drop: float = 0.5
    """In AP points, for each of box, mask and keypoint AP."""

    @property
    def chosen_runtime(self) -> str:
        """The runtime, or the format's own where none is named."""
        return self.runtime or RUNTIMES_OF[self.format][0]

    def check(self) -> None:
        """Make sure that the options go together.

        Raises:
            ConfigError: naming the option, what was got and what to give.
        """
        _check_choice("--export-method", self.method, METHODS)
        _check_choice("--format", self.format, FORMATS)
        _check_choice("--precision", self.precision, PRECISIONS)
        _check_choice(
            f"--runtime (for --format {self.format})", self.chosen_runtime, RUNTIMES_OF[self.format]
        )
        for option, value in (("--name", self.name), ("--version", self.version)):
            if not _NAME.fullmatch(value):
                raise ConfigError(
                    f"{option} is {value!r}, expected letters, digits, '_', '-' and '.' only: it "
                    "becomes part of the model's address."
                )
        if self.format == ONNX and self.method == SCRIPTING:
            raise ConfigError(
                "--format onnx goes through tracing, got --export-method scripting. Use "
                "--export-method tracing; a dynamic batch needs --format torchscript."
            )
        if self.precision != FP32 and self.chosen_runtime != OPENVINO:
            raise ConfigError(
                f"--precision {self.precision} is there for OpenVINO only, got the runtime "
                f"{self.chosen_runtime}. Add: --format onnx --runtime openvino"
            )
        if self.calibration_images is not None and self.precision != INT8:
            raise ConfigError(
                f"--calibration-images is for --precision int8, got {self.precision}: leave it out."
            )
        if not self.max_ap_drop >= 0:
            raise ConfigError(
                f"--max-ap-drop is {self.max_ap_drop}, expected AP points, 0 or more."
            )


def _check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{option} is {value!r}, expected one of {', '.join(allowed)}.")
