"""Tells detectron2 about the shapes data set.

Importing this module registers each split (``shapes_train``, ``shapes_heldout`` and the two of the
stuff splits), their names and the images in examples/shapes/data, whether or not a single one has
been generated. Images generated elsewhere are registered by ``register_generated``.

A stuff split is four data sets: ``shapes_SPLIT_separated`` and ``shapes_SPLIT_stuffonly`` as
detectron2's Panoptic FPN expects them, ``shapes_SPLIT_panoptic`` as its Panoptic-DeepLab does, and
``shapes_SPLIT_semantic`` with one label for each class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import (
    load_sem_seg,
    register_coco_instances,
    register_coco_panoptic,
    register_coco_panoptic_separated,
)

from examples.shapes.schema import (
    ANNOTATIONS_FILE,
    CLASS_NAMES,
    DEFAULT_DATA_ROOT,
    FIRST_STUFF_ID,
    IMAGES_FOLDER,
    KEYPOINT_CONNECTION_RULES,
    KEYPOINT_FLIP_MAP,
    KEYPOINT_NAMES,
    PANOPTIC_FILE,
    PANOPTIC_FOLDER,
    SEMANTIC_FOLDER,
    SPLITS,
    STUFF_FOLDER,
    STUFF_NAMES,
    STUFF_SPLITS,
    check_split,
)

IGNORE_LABEL = 255
# A segment's id is at most its class times this, plus its number.
LABEL_DIVISOR = 1000


def dataset_name(split: str) -> str:
    """detectron2's name for a split with its instances: ``shapes_heldout`` and the like, or
    ``shapes_stuff_heldout_separated`` and the like.
    """
    check_split(split)
    return f"shapes_{split}_separated" if split in STUFF_SPLITS else f"shapes_{split}"


def semantic_name(split: str) -> str:
    """detectron2's name for a stuff split with one label for each class, shapes and stuff.

    ValueError if the split has no such labels.
    """
    if split not in STUFF_SPLITS:
        raise ValueError(
            f"no labels for each pixel in {split!r}, only in {', '.join(STUFF_SPLITS)}"
        )
    return f"shapes_{split}_semantic"


def register_generated(split: str, folder: Path | None = None) -> str:
    """Register the images generated in ``folder`` and return the data set's name.

    ``folder`` is examples/shapes/data/SPLIT unless given. Registering again, for example from
    another folder, replaces the earlier one; a stuff split's other data sets are registered
    along. FileNotFoundError says how to generate the images if they are not there.
    """
    name = dataset_name(split)
    folder = folder or DEFAULT_DATA_ROOT / split
    annotations = folder / ANNOTATIONS_FILE
    if not annotations.is_file():
        raise FileNotFoundError(
            f"{annotations} does not exist; generate it with "
            f"`python -m examples.shapes.generate --split {split} --output {folder}`"
        )
    for known in [known for known in DatasetCatalog.list() if belongs_to(known, split)]:
        DatasetCatalog.remove(known)
        # Metadata refuses to change a value, such as the folder, once it is set.
        MetadataCatalog.remove(known)
    _register(split, folder)
    return name


def belongs_to(name: str, split: str) -> bool:
    """Whether detectron2's data set ``name`` is made of the images of ``split``."""
    endings = (
        ("_separated", "_stuffonly", "_panoptic", "_semantic") if split in STUFF_SPLITS else ("",)
    )
    return name in {f"shapes_{split}{ending}" for ending in endings}


def _register(split: str, folder: Path) -> None:
    # The images are read when they are asked for, and may be generated until then.
    images, annotations = str(folder / IMAGES_FOLDER), str(folder / ANNOTATIONS_FILE)
    if split not in STUFF_SPLITS:
        register_coco_instances(dataset_name(split), _metadata(), annotations, images)
        return
    register_coco_panoptic_separated(
        f"shapes_{split}",
        _metadata() | _panoptic_metadata(),
        images,
        str(folder / PANOPTIC_FOLDER),
        str(folder / PANOPTIC_FILE),
        str(folder / STUFF_FOLDER),
        annotations,
    )
    register_coco_panoptic(
        f"shapes_{split}_panoptic",
        _metadata() | _one_numbering(),
        images,
        str(folder / PANOPTIC_FOLDER),
        str(folder / PANOPTIC_FILE),
        annotations,
    )
    labels = str(folder / SEMANTIC_FOLDER)
    name = semantic_name(split)
    DatasetCatalog.register(name, lambda: load_sem_seg(labels, images))
    MetadataCatalog.get(name).set(
        stuff_classes=[*CLASS_NAMES, *STUFF_NAMES],
        sem_seg_root=labels,
        image_root=images,
        evaluator_type="sem_seg",
        ignore_label=IGNORE_LABEL,
    )


def _metadata() -> dict[str, Any]:
    return {
        "thing_classes": list(CLASS_NAMES),
        "keypoint_names": list(KEYPOINT_NAMES),
        "keypoint_flip_map": list(KEYPOINT_FLIP_MAP),
        "keypoint_connection_rules": list(KEYPOINT_CONNECTION_RULES),
    }


def _panoptic_metadata() -> dict[str, Any]:
    stuff = {FIRST_STUFF_ID + number: number + 1 for number in range(len(STUFF_NAMES))}
    return {
        "thing_dataset_id_to_contiguous_id": {n + 1: n for n in range(len(CLASS_NAMES))},
        # As detectron2 has it for COCO: label 0 is all things together.
        "stuff_classes": ["things", *STUFF_NAMES],
        "stuff_dataset_id_to_contiguous_id": {0: 0} | stuff,
        "label_divisor": LABEL_DIVISOR,
    }


def _one_numbering() -> dict[str, Any]:
    """Shapes and stuff with labels of one row, as a model has them that knows both alike."""
    stuff = {FIRST_STUFF_ID + n: len(CLASS_NAMES) + n for n in range(len(STUFF_NAMES))}
    return {
        "thing_dataset_id_to_contiguous_id": {n + 1: n for n in range(len(CLASS_NAMES))},
        "stuff_classes": [*CLASS_NAMES, *STUFF_NAMES],
        "stuff_dataset_id_to_contiguous_id": stuff,
    }


for _split in SPLITS:
    _register(_split, DEFAULT_DATA_ROOT / _split)
