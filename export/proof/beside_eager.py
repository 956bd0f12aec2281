"""What eager detectron2 has to say of Caffe2's files, where their config is there.

Files that upstream's tracer wrote years ago need not answer as detectron2 does. They are served as
they are, and it is said how far they are from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from d2serve.export.errors import ConfigError
from d2serve.export.proof.oracle import Oracle
from d2serve.export.proof.verification import Verification
from d2serve.export.reading.caffe2_files import Caffe2Files
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import family_of
from d2serve.export.reading.family import Family
from d2serve.export.reading.image_form import image_form_of
from d2serve.export.reading.names.class_names import find_names
from d2serve.export.reading.names.given import Names
from d2serve.export.reading.weights import build_model
from d2serve.handlers.spec.image_form import ImageForm
from d2serve.handlers.spec.output_names import HEATMAPS, KEYPOINTS

_MOST_MISSES = 3


@dataclass(frozen=True)
class Beside:
    """What a config says of files that were made of its model."""

    config: ModelConfig
    form: ImageForm
    names: Names
    oracle: Oracle | None
    """None where the config's weights are not on this machine."""
    notes: tuple[str, ...]


def read_beside(
    source: ConfigSource,
    files: Caffe2Files,
    class_names: Sequence[str] | None,
    stuff_class_names: Sequence[str] | None,
) -> Beside:
    """Read the config that files were made of.

    Args:
        source: the config.
        files: of Caffe2.
        class_names, stuff_class_names: given by the user.

    Raises:
        ExportError: the config cannot be read, or is of another model than the files.
    """
    config = load_config(source)
    model = build_model(config)
    family, form = family_of(model), image_form_of(model, config)
    _require_same(family, form, files)
    names = find_names(config, family.num_classes, files.num_labels, class_names, stuff_class_names)
    notes = [*config.notes, *names.notes, *_other_thresholds(family, files.family)]
    oracle = None
    if Path(config.weights).is_file():
        oracle = Oracle(config)
    else:
        notes.append(
            f"The config's weights ({config.weights or 'none'}) are no file of this machine, so "
            "eager detectron2 was not asked. Give them as an override: MODEL.WEIGHTS "
            "model_final.pth"
        )
    return Beside(config, form, replace(names, notes=()), oracle, tuple(notes))


def about(record: Verification) -> str:
    """How far files are from eager detectron2, in a sentence or two."""
    differences = record.differences
    box, score = max(d.box_px for d in differences), max(d.score for d in differences)
    missed = [each for each in differences if each.misses]
    if not missed:
        return (
            f"Eager detectron2 answers the same: on {len(differences)} images with "
            f"{record.detections} detections, boxes differ by at most {box:.2g} px and scores by "
            f"{score:.2g}."
        )
    shown = "; ".join(f"{d.image}: {', '.join(d.misses)}" for d in missed[:_MOST_MISSES])
    return (
        f"Eager detectron2 answers otherwise on {len(missed)} of {len(differences)} images "
        f"({shown}{'; ...' if len(missed) > _MOST_MISSES else ''}). The archive answers as the "
        "files do. Export the config and weights themselves for detectron2's own answer: leave "
        "out --from-caffe2."
    )


def _require_same(family: Family, form: ImageForm, files: Caffe2Files) -> None:
    theirs = files.family
    pairs = (
        ("outputs", _kinds(family), _kinds(theirs)),
        ("classes", family.num_classes, theirs.num_classes or family.num_classes),
        ("channels", form.channels, files.channels),
    )
    different = [f"{what} {mine}, not {other}" for what, mine, other in pairs if mine != other]
    if different:
        raise ConfigError(
            f"The config describes a {family.name} with {'; '.join(different)} as {files.folder} "
            f"has, a {theirs.name}. Give the config that the files were made of, or none, and "
            "what it would say: --min-size-test, --max-size-test, --image-format, --class-names."
        )


def _kinds(family: Family) -> str:
    return ", ".join(sorted(KEYPOINTS if n == HEATMAPS else n for n in family.outputs))


def _other_thresholds(mine: Family, theirs: Family) -> list[str]:
    pairs = (
        ("score threshold", mine.score_thresh, theirs.score_thresh),
        ("NMS threshold", mine.nms_thresh, theirs.nms_thresh),
        ("most detections of an image", mine.detections_per_image, theirs.detections_per_image),
    )
    return [
        f"The {what} is {other} in the files, which is what counts, and {own} in the config."
        for what, own, other in pairs
        if own != other
    ]
