"""The low-precision archives of the random model, which has no AP to lose and so is not judged.

The fp32 archive of OpenVINO is verified as any export; its program is then lowered by the very
functions that an export uses, and put back. The AP that counts is that of the trained example
models: ``make precision``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino

from benchmarks.served.sides import Precision
from d2serve.export.archive.opening import opened
from d2serve.export.precision.bf16 import to_bf16
from d2serve.export.precision.int8 import to_int8
from d2serve.export.programs.openvino import save
from d2serve.handlers.digests import sha256_of
from d2serve.handlers.spec.model_spec import SPEC_FILE, read_spec


def lowered_archive(
    source: Path, precision: Precision, images: Iterable[npt.NDArray[np.float32]], target: Path
) -> None:
    """Make the archive of a lower precision from that of fp32.

    Args:
        source: the ``.mar`` of an OpenVINO program in fp32.
        precision: of the new one.
        images: (3, H, W) as the program gets them, for int8.
        target: the ``.mar`` to write.
    """

    def lower(program: Path) -> None:
        model = openvino.Core().read_model(program, config={"ENABLE_MMAP": False})
        if precision == "bf16":
            lowered = to_bf16(model)
        else:
            calibration = list(images)
            lowered = to_int8(model, calibration, fewest=len(calibration))
        save(lowered, program.parent)

    with_lowered_program(source, precision, lower, target)


def with_lowered_program(
    source: Path, precision: str, lower: Callable[[Path], object], target: Path
) -> None:
    """Copy an archive with its program in a lower precision.

    Args:
        source: the ``.mar`` of a program in fp32.
        precision: of the new one.
        lower: writes the program anew in place, given its main file.
        target: the ``.mar`` to write.
    """
    with opened(source) as contents:
        spec = read_spec(contents)
        lower(contents / spec.program)
        hashes = {name: sha256_of(contents / name) for name in spec.sha256}
        spec = replace(spec, precision=precision, sha256=hashes)
        (contents / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
        with zipfile.ZipFile(target, "w") as file:
            for path in sorted(each for each in contents.rglob("*") if each.is_file()):
                file.write(path, path.relative_to(contents))
