"""The two sides of a comparison that is made again: a config's eager model, and an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from d2serve.export.archive.provenance import provenance_of
from d2serve.export.errors import ArchiveError, ConfigError, SampleError, one_line
from d2serve.export.proof.cases import Case
from d2serve.export.proof.oracle import Oracle
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
from d2serve.handlers.errors import LoadError, RequestError
from d2serve.handlers.spec.image_form import ImageForm
from d2serve.handlers.spec.model_spec import ModelSpec, read_spec


@dataclass(frozen=True)
class Loaded:
    """What a config leads to."""

    config: ModelConfig
    family: Family
    model: nn.Module
    weights: LoadedWeights
    oracle: Oracle


def load(source: ConfigSource) -> Loaded:
    """Build a config's model, read its weights, and make it ready to answer.

    Raises:
        ExportError: as for an export.
    """
    config = load_config(source)
    model = build_model(config)
    family = family_of(model)
    # Refuses weights that do not fit, which DefaultPredictor takes.
    weights = load_weights(model, config)
    oracle = Oracle(config)
    family = observed(family, oracle.model, oracle.model_input(builtin_sample(oracle.form)))
    return Loaded(config, family, model, weights, oracle)


def known_names(loaded: Loaded) -> tuple[str, ...] | None:
    """For archives without names: what their data sets call the classes."""
    count, found = loaded.family.num_classes, of_checkpoint(loaded.weights.beside)
    try:
        return find_names(loaded.config, count, None, None, None, found).classes
    except ConfigError:  # sources disagree
        return None


def other_preparation(loaded: Loaded, spec: ModelSpec) -> list[str]:
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


def likely_cause(loaded: Loaded, source: ConfigSource, spec: ModelSpec) -> str:
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


def spec_in(archive: Path, model_dir: Path) -> ModelSpec:
    """The spec of an archive that is open.

    Raises:
        ArchiveError: it cannot be used.
    """
    try:
        return read_spec(model_dir)
    except LoadError as error:
        raise ArchiveError(f"{archive}: {error}") from error


def cases_of_folder(folder: Path, form: ImageForm) -> list[Case]:
    """The images of a folder and those below it, each by itself.

    Raises:
        SampleError: there are none, or one cannot be read.
    """
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
