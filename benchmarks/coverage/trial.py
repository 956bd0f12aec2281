"""Makes one row, in a process of its own: it can be ended, and takes its memory with it.

``python -m benchmarks.coverage.trial JOB`` runs a job, a JSON file with the fields of ``Job``, and
writes the row to its ``result`` after each kind: what an abrupt end leaves is known that far.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks.coverage.asking import bounds_of, opened
from benchmarks.coverage.comparing import Reference, compared
from benchmarks.coverage.programs import Programs, Subject
from benchmarks.coverage.record import FAILED, REFUSED, Cell, Row, new_row
from benchmarks.coverage.weights import settle
from benchmarks.coverage.wording import without_paths
from benchmarks.coverage.zoo import source_of
from d2serve.export.errors import ExportError, one_line
from d2serve.export.programs.tracing import program_inputs
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import family_of
from d2serve.export.reading.image_files import Pixels
from d2serve.export.reading.own_models.answers import observed
from d2serve.export.reading.samples import builtin_sample, sized_variants
from d2serve.export.reading.weights import build_model, load_model

# The example models' data sets, and where the keys of PointRend's config are declared.
_IMPORTS = (
    "examples.shapes.dataset",
    "detectron2.projects.point_rend",
    "detectron2.projects.deeplab",
    "detectron2.projects.panoptic_deeplab",
)
_SAMPLES = ("half", "turned", "panorama")


@dataclass(frozen=True)
class Job:
    """One row to make."""

    config: str
    """A zoo configuration, or an example's YAML file or LazyConfig."""
    result: str
    kinds: Sequence[str]
    """Of programs, in the order in which they are made."""
    images: Sequence[str] | None = None
    """Files of images for a trained model; None is for the zoo's, with random weights."""


def main(job_file: str) -> None:
    """Run a job."""
    torch.set_num_threads(1)
    job = Job(**json.loads(Path(job_file).read_text()))
    result = Path(job.result)

    def write(row: Row) -> None:
        result.write_text(json.dumps(asdict(row)))

    with tempfile.TemporaryDirectory(prefix="d2serve-coverage-") as folder:
        make_row(job, Path(folder), write)


def make_row(job: Job, folder: Path, write: Callable[[Row], None]) -> None:
    """Make a row, telling it as far as it is after each kind."""
    start = time.monotonic()
    row = new_row(job.config)

    def tell(kind: str, cell: Cell) -> None:
        nonlocal row
        cells = {**row.cells, kind: cell}
        row = replace(row, cells=cells, seconds=round(time.monotonic() - start, 1))
        write(row)

    try:
        prepared = _zoo_model(job.config, folder) if job.images is None else _example(job.config)
        row = replace(row, family=family_of(prepared.model).name)
        subject, reference = _asked(prepared, job.images)
    except Exception as error:  # it stands in the row, whatever it is
        for kind in job.kinds:
            tell(kind, _not_made(error))
        return
    programs = Programs(subject, folder)
    for kind in job.kinds:
        try:
            program = programs.make(kind)
            cell = compared(kind, program, opened(kind, program), bounds_of(program), reference)
        except Exception as error:  # likewise
            cell = _not_made(error)
        tell(kind, cell)
        gc.collect()


def _not_made(error: Exception) -> Cell:
    if isinstance(error, ExportError):
        return Cell(REFUSED, without_paths(str(error)))
    return Cell(FAILED, without_paths(f"{type(error).__name__}: {one_line(error)}"))


@dataclass(frozen=True)
class _Prepared:
    source: ConfigSource
    config: ModelConfig
    model: nn.Module


def _zoo_model(name: str, folder: Path) -> _Prepared:
    # The weights go through a file, so that DefaultPredictor itself can be asked.
    weights = folder / "weights.pth"
    torch.manual_seed(0)
    model = build_model(load_config(source_of(name)))
    family_of(model)  # refuses what is not exported, before any work
    sample = Image.fromarray(sized_variants(builtin_sample())["half"])
    height = sample.height * 160 // sample.width
    pixels = np.asarray(sample.resize((160, height)), dtype=np.float32)
    settle(model, torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
    torch.save({"model": model.state_dict()}, weights)
    source = source_of(name, str(weights))
    return _Prepared(source, load_config(source), model)


def _example(file: str) -> _Prepared:
    source = ConfigSource(file, imports=_IMPORTS)
    config = load_config(source)
    return _Prepared(source, config, load_model(config))


def _asked(prepared: _Prepared, files: Sequence[str] | None) -> tuple[Subject, Reference]:
    oracle = Oracle(prepared.config)
    images: list[Pixels] = [np.asarray(Image.open(file).convert("RGB")) for file in files or ()]
    if files is None:
        variants = sized_variants(builtin_sample())
        images = [variants[name] for name in _SAMPLES]
    given = oracle.model_input(images[0])
    family = observed(family_of(prepared.model), oracle.model, given)
    inputs = program_inputs(given, family.postprocessed)
    subject = Subject(prepared.source, prepared.config, prepared.model, family, inputs)
    return subject, Reference.of(oracle, images)


if __name__ == "__main__":
    main(sys.argv[1])
