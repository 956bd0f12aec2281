"""Verifies and evaluates an archive that is already there, on the user's own images.

An export verifies what it writes on one sample image and pictures made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from d2serve.export.annotations.evaluation_sets import evaluation_set
from d2serve.export.annotations.expectations import expectations_of
from d2serve.export.archive.opening import opened
from d2serve.export.archive.provenance import provenance_of
from d2serve.export.errors import (
    ArchiveError,
    ConfigError,
    SampleError,
    VerificationError,
    one_line,
)
from d2serve.export.failures import in_a_sentence
from d2serve.export.proof.cases import Case, plan_cases
from d2serve.export.proof.evaluation import Scores, evaluate, first_test_dataset, near_zero
from d2serve.export.proof.isolated_replay import gpu_id
from d2serve.export.proof.oracle import Oracle
from d2serve.export.proof.verification import Verification, verify
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import Family, family_of
from d2serve.export.reading.image_files import SUFFIXES, read_image_file
from d2serve.export.reading.names.class_names import find_names
from d2serve.export.reading.names.given import Names
from d2serve.export.reading.names.sources import of_checkpoint
from d2serve.export.reading.own_models.answers import observed
from d2serve.export.reading.samples import builtin_sample
from d2serve.export.reading.weights import LoadedWeights, build_model, load_weights
from d2serve.export.request import Progress
from d2serve.handlers.errors import LoadError, RequestError
from d2serve.handlers.spec.image_form import ImageForm
from d2serve.handlers.spec.model_spec import ModelSpec, read_spec
from d2serve.handlers.spec.runtimes import FP32, RUNTIMES, TORCHSCRIPT


@in_a_sentence
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
    loaded = _load(source)
    config, oracle = loaded.config, loaded.oracle
    with opened(archive) as model_dir:
        spec = _spec(archive, model_dir)
        for difference in _other_preparation(loaded, spec):
            raise VerificationError(
                f"{difference} Their answers differ for that reason alone. Give the config and "
                "overrides of the export, or export again with these."
            )
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
            traced_constants=tuple(spec.verification.get("traced_constants", ())),
            keeps_nms=RUNTIMES[spec.runtime].format == TORCHSCRIPT,
            gpu_id=gpu_id(config.device),
            outcome=_likely_cause(loaded, source, spec),
            progress=progress.advance,
        )


@in_a_sentence
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
    progress.begin("Loading the weights", 0)
    loaded = _load(source)
    config = loaded.config
    data_source = first_test_dataset(config) if coco is None else coco
    with opened(archive) as model_dir:
        spec = _spec(archive, model_dir)
        for difference in _other_preparation(loaded, spec):
            progress.note(
                f"{difference} Both are evaluated as they are, so the difference is not that of "
                "the program alone."
            )
        expected = expectations_of(
            loaded.model,
            loaded.family,
            config,
            spec.class_names or _known_names(loaded),
            spec.stuff_class_names,
        )
        with evaluation_set(data_source, expected) as data:
            for note in data.notes:
                progress.note(note)
            scores = evaluate(
                loaded.oracle,
                model_dir,
                data,
                config.keypoint_oks_sigmas,
                gpu_id(config.device),
                progress.begin,
                progress.advance,
            )
    if low := near_zero(scores[0]):
        progress.note(
            f"Eager detectron2 itself scores {', '.join(low)} on {data.name}. It probably is not "
            "the data that the model was trained for, and a small difference says nothing of the "
            "archive."
        )
    return scores


@dataclass(frozen=True)
class _Loaded:
    config: ModelConfig
    family: Family
    model: nn.Module
    weights: LoadedWeights
    oracle: Oracle


def _load(source: ConfigSource) -> _Loaded:
    config = load_config(source)
    model = build_model(config)
    family = family_of(model)
    # Refuses weights that do not fit, which DefaultPredictor takes.
    weights = load_weights(model, config)
    oracle = Oracle(config)
    family = observed(family, oracle.model, oracle.model_input(builtin_sample(oracle.form)))
    return _Loaded(config, family, model, weights, oracle)


def _known_names(loaded: _Loaded) -> tuple[str, ...] | None:
    """For archives without names: what their data sets call the classes."""
    count, found = loaded.family.num_classes, of_checkpoint(loaded.weights.beside)
    try:
        return find_names(loaded.config, count, None, None, None, found).classes
    except ConfigError:  # sources disagree
        return None


def _other_preparation(loaded: _Loaded, spec: ModelSpec) -> list[str]:
    """How a config prepares images otherwise than an archive, in sentences."""
    config, own, form = loaded.config, loaded.oracle.form, spec.image_form
    pairs = (
        ("short edge (MIN_SIZE_TEST)", config.min_size_test, spec.min_size_test),
        ("bound of the long edge (MAX_SIZE_TEST)", config.max_size_test, spec.max_size_test),
        ("bands (FORMAT)", own.image_format, form.image_format),
        ("channels", own.channels, form.channels),
    )
    different = [f"{what} {mine}, not {theirs}" for what, mine, theirs in pairs if mine != theirs]
    if not different:
        return []
    return [f"The config prepares images otherwise than the archive: {'; '.join(different)}."]


def _likely_cause(loaded: _Loaded, source: ConfigSource, spec: ModelSpec) -> str:
    """Why an archive may differ from a config's model, by what it says it was made of."""
    made_of = spec.provenance
    if made_of is None:
        return "Is the archive of this config and these weights?"
    now = provenance_of(source, loaded.config, loaded.weights, Names(None, None))
    others = [
        f"{what} {theirs} (sha256 {digest[:12]}), not of {mine} ({own[:12]})"
        for what, theirs, digest, mine, own in (
            ("weights", made_of.weights, made_of.weights_sha256, now.weights, now.weights_sha256),
            ("config", made_of.config, made_of.config_sha256, now.config, now.config_sha256),
        )
        if digest != own
    ]
    if not others:
        return "It was made of this config and these weights, so the program itself is in doubt."
    return f"The archive was made of {' and of '.join(others)}: give those to compare it with."


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
