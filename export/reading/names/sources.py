"""Where the names of a model's classes can be found: its data sets, their files, its checkpoint.

``register_coco_instances`` puts names into a data set's metadata only when the data set is loaded,
which needs all of its images' records. So its annotation file is read here by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

THINGS, STUFF = "thing_classes", "stuff_classes"
"""detectron2's keys of metadata."""

# How the data sets that detectron2 itself registers begin: their metadata is always there.
_BUILT_IN = ("ade20k_", "cityscapes_", "coco_", "keypoints_coco_", "lvis_", "voc_")

# Where training code leaves names in a checkpoint: Lightning's hyper_parameters, the meta of
# OpenMMLab's, and what people write into their own.
_IN_CHECKPOINTS = tuple(
    (*path, key)
    for path in (
        (),
        ("hyper_parameters",),
        ("metadata",),
        ("meta",),
        ("meta", "dataset_meta"),
        ("dataset_meta",),
    )
    for key in ("class_names", THINGS, "classes", "CLASSES", "names", "id2label")
)


@dataclass(frozen=True)
class FoundNames:
    """Names of classes, one for each in order, and where they stand."""

    names: tuple[str, ...]
    source: str
    """In words, as it goes into the archive: no path of this machine is in it."""


def of_dataset(name: str, key: str) -> Iterator[FoundNames]:
    """What a data set calls its classes, in its metadata and in its COCO file, without loading it.

    Args:
        name: of the data set, registered or not.
        key: ``THINGS`` or ``STUFF``, which no COCO file has.
    """
    metadata = MetadataCatalog.get(name)
    named = metadata.get(key)
    if named:
        yield FoundNames(tuple(map(str, named)), f"the metadata of {name}")
    file = metadata.get("json_file")
    if key == THINGS and file is not None and not (named and is_built_in(name)):
        in_file = _of_coco_file(str(file))
        if in_file:
            yield FoundNames(in_file, f"{Path(str(file)).name}, the json_file of {name}")


def is_built_in(name: str) -> bool:
    """Whether detectron2 itself registers a data set, so that its names are always there."""
    return name.startswith(_BUILT_IN)


def of_checkpoint(content: Mapping[str, Any]) -> FoundNames | None:
    """What a checkpoint calls the classes, where whoever trained it left that beside the weights.

    Args:
        content: of the weights file, as it was read.
    """
    for path in _IN_CHECKPOINTS:
        names = _as_names(_at(content, path))
        if names is not None:
            return FoundNames(names, f"{'.'.join(path)} of the weights file")
    return None


def _of_coco_file(file: str) -> tuple[str, ...]:
    """Names of the categories by rising id, as detectron2's load_coco_json has them
    (detectron2/data/datasets/coco.py); none where there is no such file."""
    try:
        with PathManager.open(file) as text:
            categories = json.load(text)["categories"]
        return tuple(str(each["name"]) for each in sorted(categories, key=lambda each: each["id"]))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _at(content: Any, path: Sequence[str]) -> Any:
    for key in path:
        if not isinstance(content, Mapping) or key not in content:
            return None
        content = content[key]
    return content


def _as_names(value: Any) -> tuple[str, ...] | None:
    """A list of texts, or a dict of them by class: {0: "cat", 1: "dog"}, also with "0" and "1"."""
    if isinstance(value, Mapping):
        by_class = {str(key): each for key, each in value.items()}
        if by_class.keys() != {str(number) for number in range(len(by_class))}:
            return None
        value = [by_class[str(number)] for number in range(len(by_class))]
    if not isinstance(value, (list, tuple)) or not value:
        return None
    return tuple(value) if all(isinstance(each, str) for each in value) else None
