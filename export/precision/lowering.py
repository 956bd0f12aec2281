"""Makes programs of a lower precision, each in its own way, until one loses little enough.

bf16 and int8 are OpenVINO's, fp16 is an ONNX program's. Their libraries are imported where they
are used, since an export needs one of them only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2serve.export.annotations.evaluation_sets import records_of
from d2serve.export.errors import PrecisionError, ProgramError, SampleError, one_line
from d2serve.export.programs.program import Program
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.image_files import SUFFIXES, read_image_file
from d2serve.export.request import ExportRequest, Progress
from d2serve.handlers.errors import RequestError
from d2serve.handlers.requests.preprocessing import preprocess
from d2serve.handlers.runtimes.cpu_features import slow_precision
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.runtimes import BF16, FP16, INT8

Write = Callable[[Path], Path]
"""Writes a program into a folder; gives its main file."""

# How few are too few is int8's own (FEWEST_IMAGES), which brings NNCF.
# Twice as many as int8 uses: the model may find nothing in some.
_MOST_CALIBRATION_IMAGES = 300


def lowered_within(
    request: ExportRequest,
    program: Program,
    spec: ModelSpec,
    files: list[Path],
    drop_of: Callable[[Write], float],
    progress: Progress,
) -> str:
    """Make programs until one loses little enough; returns what stayed more precise.

    Args:
        request: with the precision and the AP that may be lost.
        program: in fp32.
        spec: its spec.
        files: images to calibrate int8 on.
        drop_of: writes a program, and gives the AP that it loses.
        progress: is told how far it is.

    Raises:
        PrecisionError: all of them lose more than is allowed.
    """
    if request.precision == INT8:
        return _int8_within(request, program, spec, files, drop_of, progress)
    write = {BF16: _bf16, FP16: _fp16}[request.precision](program.main)
    drop = drop_of(write)
    if drop > request.max_ap_drop:
        raise PrecisionError(
            f"{request.precision} costs {drop:.2f} AP points, {request.max_ap_drop:g} are allowed. "
            "Nothing was written. Allow more (--max-ap-drop), or stay with --precision fp32."
        )
    return "arithmetic on boxes and scores in fp32"


def _bf16(main: Path) -> Write:
    import openvino

    from d2serve.export.precision.bf16 import to_bf16
    from d2serve.export.programs.openvino import save

    return partial(save, to_bf16(openvino.Core().read_model(str(main))))


def _fp16(main: Path) -> Write:
    import onnx

    from d2serve.export.precision.fp16 import to_fp16

    def write(folder: Path) -> Path:
        lowered = onnx.load(main)
        to_fp16(lowered)
        onnx.checker.check_model(lowered, full_check=True)
        onnx.save(lowered, folder / main.name)
        return folder / main.name

    return write


def _int8_within(
    request: ExportRequest,
    program: Program,
    spec: ModelSpec,
    files: list[Path],
    drop_of: Callable[[Write], float],
    progress: Progress,
) -> str:
    import openvino

    from d2serve.export.precision.int8 import to_int8_within
    from d2serve.export.programs.openvino import save

    model = openvino.Core().read_model(str(program.main))
    images = _CalibrationImages(files, spec, progress)
    try:
        _, tried = to_int8_within(
            model, images, lambda made: drop_of(partial(save, made)), request.max_ap_drop
        )
    except ProgramError as error:
        raise PrecisionError(f"{error} Nothing was written.") from error
    return f"{tried[-1].left_in_float} not in int8, arithmetic on boxes and scores in fp32"


def check_cpu(precision: str) -> None:
    """Make sure that this CPU runs a precision that is a CPU's.

    Raises:
        PrecisionError: it would run in fp32, so that its AP could not be measured.
    """
    if precision not in (BF16, INT8):
        return
    import openvino

    lacking = slow_precision(
        precision, openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    )
    if lacking:
        raise PrecisionError(
            f"--precision {precision} cannot be measured here: {lacking}, so the program would run "
            "in fp32. Export on a CPU that has them, or use --precision fp32."
        )


def calibration_files(request: ExportRequest, config: ModelConfig) -> list[Path]:
    """The images for int8: those of the folder that is named, or of the first training data set.

    Of another precision none.

    Raises:
        SampleError: they are too few.
    """
    if request.precision != INT8:
        return []
    from d2serve.export.precision.int8 import FEWEST_IMAGES

    folder = request.calibration_images
    if folder is not None:
        files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
        source = str(folder)
    elif config.train_datasets:
        name = config.train_datasets[0]
        files = [Path(record["file_name"]) for record in records_of(name)]
        source = f"the config's training data set, {name}"
    else:
        files, source = [], "the config, which names no training data set"
    if len(files) < FEWEST_IMAGES:
        raise SampleError(
            f"int8 is calibrated on images: got {len(files)} from {source}, expected "
            f"{FEWEST_IMAGES} or more like those that the model will see. Name a folder "
            "of them: --calibration-images DIR"
        )
    # Evenly over the data set, which may be sorted by what it shows; so is the first half of these.
    count = min(len(files), _MOST_CALIBRATION_IMAGES)
    spread = [files[index * len(files) // count] for index in range(count)]
    return spread[::2] + spread[1::2]


@dataclass(frozen=True)
class _CalibrationImages:
    """Images as a program gets them, read when their turn comes: together they are gigabytes."""

    files: list[Path]
    spec: ModelSpec
    progress: Progress

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        from d2serve.export.precision.int8 import MOST_IMAGES

        self.progress.begin("Calibrating", min(len(self.files), MOST_IMAGES))
        for file in self.files:
            try:
                yield preprocess(read_image_file(file, self.spec.image_form), self.spec).tensor
            except (OSError, RequestError) as error:
                raise SampleError(f"{file} cannot be read: {one_line(error)}") from error
            self.progress.advance()
