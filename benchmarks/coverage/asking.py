"""How a program of a row is asked: by the handler's own functions, or by the C++ program."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks.coverage.comparing import Ask
from benchmarks.coverage.record import CPP_KINDS, WINOGRAD_KINDS
from benchmarks.shared.errors import BenchError
from d2serve.client.results.prediction import parse_prediction
from d2serve.export.programs.program import Program
from d2serve.export.reading.image_files import Pixels
from d2serve.handlers.detector import Detector
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.spec.bounds import Bounds
from d2serve.handlers.spec.convolution import DIRECT, WINOGRAD
from d2serve.handlers.spec.model_spec import read_spec
from d2serve.handlers.spec.runtimes import RUNTIMES

_ROOT = Path(__file__).resolve().parent.parent.parent
_CPP = _ROOT / "examples" / "cpp" / "build" / "bin" / "d2serve_predict"


def bounds_of(program: Program) -> Bounds:
    """Within which the answers of a program, whoever runs it, are detectron2's."""
    return RUNTIMES[read_spec(program.main.parent).runtime].bounds


def opened(kind: str, program: Program) -> Ask:
    """The program as it is run in production, on one thread.

    Args:
        kind: of a cell.
        program: with its spec beside it.

    Raises:
        BenchError: the C++ program is asked for and was not built.
    """
    folder = program.main.parent
    if kind in CPP_KINDS:
        if not _CPP.exists():
            raise BenchError(f"{_CPP.relative_to(_ROOT)} is not there. Build it: make cpp")
        return lambda images: _asked_in_cpp(folder, images)
    # With batches where it takes them.
    batching = "always" if read_spec(folder).dynamic_batch else "auto"
    convolution = WINOGRAD if kind in WINOGRAD_KINDS else DIRECT
    return Detector.open(folder, batching=batching, threads=1, convolution=convolution)


def _asked_in_cpp(model: Path, images: Sequence[Pixels]) -> list[Outputs]:
    with tempfile.TemporaryDirectory(prefix="d2serve-cpp-") as folder:
        files = [Path(folder, f"{index}.png") for index in range(len(images))]
        for image, file in zip(images, files):
            Image.fromarray(image).save(file)
        command = [str(each) for each in (_CPP, model, *files, "--threads", 1)]
        said = subprocess.run(command, capture_output=True, check=False)
    if said.returncode:
        raise BenchError(f"The C++ program failed: {said.stderr.decode(errors='replace').strip()}")
    return [parse_prediction(line).to_outputs() for line in said.stdout.splitlines()]
