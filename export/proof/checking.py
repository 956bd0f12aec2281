"""Verifies and evaluates an archive that is already there, on the user's own images.

An export verifies what it writes on one sample image and pictures made of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from d2serve.export.archive.opening import opened
from d2serve.export.errors import ArchiveError, SampleError, VerificationError, one_line
from d2serve.export.proof.evaluation import Scores, evaluate, first_test_dataset, register
from d2serve.export.proof.isolated_replay import gpu_id
from d2serve.export.proof.oracle import Oracle
from d2serve.export.proof.verification import Case, Verification, plan_cases, verify
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import Family, family_of
from d2serve.export.reading.image_files import SUFFIXES, read_image_file
from d2serve.export.reading.own_models.answers import observed
from d2serve.export.reading.samples import builtin_sample
from d2serve.export.reading.weights import build_model, load_weights
from d2serve.export.request import Progress
from d2serve.handlers.errors import LoadError, RequestError
from d2serve.handlers.spec.image_form import ImageForm
from d2serve.handlers.spec.model_spec import ModelSpec, read_spec
from d2serve.handlers.spec.runtimes import FP32, RUNTIMES


def verify_archive(
    archive: Path,
    source: ConfigSource,
    images: Path | None,
    progress: Progress,
) -> Verification:
    """Compare a .mar with eager detectron2 again, on the user's images or on the built-in sample.

    Args:
        archive: the .mar.
        source: the config, as for the export.
        images: a folder of image files; None takes what the export took.
        progress: is told how far it is.

    Raises:
        ExportError: as for an export.
    """
    progress.begin("Loading the weights", 0)
    config, _family, oracle = _oracle(source)
    with opened(archive) as model_dir:
        spec = _spec(archive, model_dir)
        if spec.precision != FP32:
            raise VerificationError(
                f"{archive} is in {spec.precision}, whose answers differ from detectron2's by "
                "design, so they cannot be verified. Compare the AP: `d2serve evaluate`."
            )
        not_reached: tuple[str, ...] = ()
        if images is None:
            progress.begin("Choosing images", 0)
            cases, not_reached = plan_cases(builtin_sample(oracle.form), oracle, spec.dynamic_batch)
        else:
            cases = _cases_of_folder(images, spec.image_form)
        progress.begin("Comparing with detectron2", 2 * len(cases))
        return verify(
            model_dir,
            oracle,
            cases,
            RUNTIMES[spec.runtime].bounds,
            not_reached=not_reached,
            gpu_id=gpu_id(config.device),
            progress=progress.advance,
        )


def evaluate_archive(
    archive: Path,
    source: ConfigSource,
    coco: tuple[Path, Path] | None,
    progress: Progress,
) -> tuple[Scores, Scores]:
    """COCO AP of eager detectron2 and of a .mar.

    Args:
        archive: the .mar.
        source: the config, as for the export.
        coco: annotation file and image folder; None takes the config's DATASETS.TEST.
        progress: is told how far it is.

    Raises:
        ExportError: as for an export; EvaluationError where the data set is not there.
    """
    begin: Callable[[str, int], None] = progress.begin
    begin("Loading the weights", 0)
    config, family, oracle = _oracle(source)
    dataset = first_test_dataset(config) if coco is None else register(*coco)
    with opened(archive) as model_dir:
        _spec(archive, model_dir)
        gpu = gpu_id(config.device)
        return evaluate(config, family, oracle, model_dir, dataset, gpu, begin, progress.advance)


def _oracle(source: ConfigSource) -> tuple[ModelConfig, Family, Oracle]:
    config = load_config(source)
    model = build_model(config)
    family = family_of(model)
    load_weights(model, config)  # refuses weights that do not fit, which DefaultPredictor takes
    oracle = Oracle(config)
    return config, observed(family, oracle.model, oracle.model_input(builtin_sample())), oracle


def _spec(archive: Path, model_dir: Path) -> ModelSpec:
    try:
        return read_spec(model_dir)
    except LoadError as error:
        raise ArchiveError(f"{archive}: {error}") from error


def _cases_of_folder(folder: Path, form: ImageForm) -> list[Case]:
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
    if not files:
        raise SampleError(f"--images {folder} has no image files ({', '.join(sorted(SUFFIXES))}).")
    cases = []
    for file in files:
        try:
            pixels = read_image_file(file, form)
        except (OSError, RequestError) as error:
            raise SampleError(f"{file} cannot be read: {one_line(error)}") from error
        cases.append(Case({str(file.relative_to(folder)).replace("/", "_"): pixels}, False))
    return cases
