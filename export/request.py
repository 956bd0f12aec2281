"""What a user asks to export: checked as a whole before any work, and refused with one reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2serve.export.errors import ConfigError
from d2serve.export.naming import DEFAULT_VERSION
from d2serve.export.reading.config import ConfigSource
from d2serve.handlers.spec.runtimes import (
    FP32,
    INT8,
    METHODS,
    RUNTIMES,
    TORCHSCRIPT,
    formats,
    precisions,
    runtimes_in,
    runtimes_of,
)
from d2serve.handlers.spec.sixteen_bit import OPENCV, SIXTEEN_BIT_WAYS

# As torch-model-archiver permits for names, and TorchServe's addresses for both.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-.]*")

Report = Callable[[str, int], None]
"""Told the name of each step as it begins, and of how many parts it consists (0: not known)."""


@dataclass(frozen=True)
class Progress:
    """Where an export reports how far it is."""

    begin: Report
    advance: Callable[[], None]
    note: Callable[[str], None] = lambda _text: None
    """Told what the user should know and nothing is refused for, in a sentence."""


@dataclass(frozen=True)
class ExportRequest:
    """What a user asks for; the fields are the command's options."""

    source: ConfigSource
    method: str
    name: str
    version: str = DEFAULT_VERSION
    sample_image: Path | None = None
    class_names: Sequence[str] | None = None
    stuff_class_names: Sequence[str] | None = None
    """Of the labels of sem_seg."""
    sixteen_bit: str = OPENCV
    """How image files of 16 bits a sample become 8, one of ``SIXTEEN_BIT_WAYS``."""
    output: Path = Path("model_store")
    format: str = TORCHSCRIPT
    runtime: str | None = None
    """None is the first one of the format: onnxruntime for ONNX."""
    dynamic_batch: bool = False
    """Ask for a program that takes several images in one call; some methods always give one."""
    frozen: bool = False
    """Write a program that holds its weights as constants, in the one file of which it consists."""
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
        return self.runtime or runtimes_of(self.format)[0]

    @property
    def takes_batches(self) -> bool:
        """Whether the program is to take several images in one call."""
        return self.dynamic_batch or self.method in RUNTIMES[self.chosen_runtime].batching_methods

    def check(self) -> None:
        """Make sure that the options go together.

        Raises:
            ConfigError: naming the option, what was got and what to give.
        """
        check_choice("--export-method", self.method, METHODS)
        check_choice("--format", self.format, formats())
        check_choice("--precision", self.precision, precisions())
        check_choice("--sixteen-bit", self.sixteen_bit, SIXTEEN_BIT_WAYS)
        possible = runtimes_of(self.format)
        check_choice(f"--runtime (for --format {self.format})", self.chosen_runtime, possible)
        check_address(self.name, self.version)
        facts = RUNTIMES[self.chosen_runtime]
        if self.method not in facts.methods:
            methods = " or ".join(facts.methods)
            batches = " For batches, add --dynamic-batch." * bool(facts.joining_methods)
            raise ConfigError(
                f"--format {self.format} goes through {methods}, got --export-method "
                f"{self.method}. Use --export-method {methods}.{batches}"
            )
        able_methods = (*facts.batching_methods, *facts.joining_methods)
        if self.dynamic_batch and self.method not in able_methods:
            raise ConfigError(
                f"--dynamic-batch is there for {_with_batches()} only, got --format {self.format} "
                f"with --export-method {self.method}. Leave it out, or choose one of these."
            )
        joins = self.dynamic_batch and self.method in facts.joining_methods
        if joins and self.precision != FP32:
            raise ConfigError(
                f"--dynamic-batch is there for --precision {FP32}, got {self.precision}. Leave out "
                "one of the two."
            )
        if self.precision not in facts.precisions:
            able = [RUNTIMES[name] for name in runtimes_in(self.precision)]
            raise ConfigError(
                f"--precision {self.precision} is there for "
                f"{' and '.join(each.title for each in able)} only, got the runtime {facts.name}. "
                f"Add: --format {able[0].format} --runtime {able[0].name}"
            )
        if self.method in facts.fp32_methods and self.precision != FP32:
            able_methods = tuple(each for each in facts.methods if each not in facts.fp32_methods)
            raise ConfigError(
                f"--precision {self.precision} is there for --export-method "
                f"{' or '.join(able_methods)} only, got {self.method}. Use one of these, or leave "
                "out --precision."
            )
        if self.frozen and not facts.frozen_file:
            able = [each for each in RUNTIMES.values() if each.frozen_file]
            raise ConfigError(
                f"--frozen is there for {' and '.join(each.title for each in able)} only, got "
                f"--format {self.format}. Leave it out, or add: --format {able[0].format}"
            )
        if self.calibration_images is not None and self.precision != INT8:
            raise ConfigError(
                f"--calibration-images is for --precision int8, got {self.precision}: leave it out."
            )
        if not self.max_ap_drop >= 0:
            raise ConfigError(
                f"--max-ap-drop is {self.max_ap_drop}, expected AP points, 0 or more."
            )


def _with_batches() -> str:
    """The formats, with their methods, of programs that can take batches."""
    choices = dict.fromkeys(
        f"--format {each.format} --export-method {method}"
        for each in RUNTIMES.values()
        for method in (*each.batching_methods, *each.joining_methods)
    )
    return " and ".join(choices)


def check_address(name: str, version: str) -> None:
    """Make sure that a name and a version can be part of a model's address.

    Raises:
        ConfigError: naming the option and what was got.
    """
    for option, value in (("--name", name), ("--version", version)):
        if not _NAME.fullmatch(value):
            raise ConfigError(
                f"{option} is {value!r}, expected letters, digits, '_', '-' and '.' only: it "
                "becomes part of the model's address."
            )


def check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    """Make sure that an option has one of the values that it may have.

    Raises:
        ConfigError: naming them.
    """
    if value not in allowed:
        raise ConfigError(f"{option} is {value!r}, expected one of {', '.join(allowed)}.")
