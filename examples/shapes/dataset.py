"""Tells detectron2 about the shapes data set.

Importing this module registers ``shapes_train`` and ``shapes_heldout``, their names and the images
in examples/shapes/data, whether or not a single one has been generated. Images generated elsewhere
are registered by ``register_generated``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from examples.shapes.schema import (
    ANNOTATIONS_FILE,
    CLASS_NAMES,
    DEFAULT_DATA_ROOT,
    IMAGES_FOLDER,
    KEYPOINT_CONNECTION_RULES,
    KEYPOINT_FLIP_MAP,
    KEYPOINT_NAMES,
    SPLITS,
    check_split,
)


def dataset_name(split: str) -> str:
    """detectron2's name for a split: ``shapes_train`` or ``shapes_heldout``."""
    check_split(split)
    return f"shapes_{split}"


def register_generated(split: str, folder: Path | None = None) -> str:
    """Register the images generated in ``folder`` and return the data set's name.

    ``folder`` is examples/shapes/data/SPLIT unless given. Registering again, for example from
    another folder, replaces the earlier one. FileNotFoundError says how to generate the images
    if they are not there.
    """
    name = dataset_name(split)
    folder = folder or DEFAULT_DATA_ROOT / split
    annotations = folder / ANNOTATIONS_FILE
    if not annotations.is_file():
        raise FileNotFoundError(
            f"{annotations} does not exist; generate it with "
            f"`python -m examples.shapes.generate --split {split} --output {folder}`"
        )
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
    # Metadata refuses to change a value, such as the folder, once it is set.
    MetadataCatalog.remove(name)
    register_coco_instances(name, _metadata(), str(annotations), str(folder / IMAGES_FOLDER))
    return name


def _metadata() -> dict[str, Any]:
    return {
        "thing_classes": list(CLASS_NAMES),
        "keypoint_names": list(KEYPOINT_NAMES),
        "keypoint_flip_map": list(KEYPOINT_FLIP_MAP),
        "keypoint_connection_rules": list(KEYPOINT_CONNECTION_RULES),
    }


def _register_defaults() -> None:
    # The images are read when they are asked for, and may be generated until then.
    for split in SPLITS:
        folder = DEFAULT_DATA_ROOT / split
        register_coco_instances(
            dataset_name(split),
            _metadata(),
            str(folder / ANNOTATIONS_FILE),
            str(folder / IMAGES_FOLDER),
        )


_register_defaults()
