"""What every part of this example must agree on, kept free of heavy imports.

The generator needs neither torch nor detectron2, and the training side needs not draw anything;
both take the class names, the keypoints, the splits and the default folder from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

CLASS_NAMES: Final = ("circle", "rectangle", "triangle")

# The four outer keypoints lie where the horizontal or vertical line through the centre leaves the
# outline, so they are well defined for every class and every rotation.
KEYPOINT_NAMES: Final = ("centre", "top", "right", "bottom", "left")
KEYPOINT_DIRECTIONS: Final = ((0.0, 0.0), (0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))
KEYPOINT_FLIP_MAP: Final = (("left", "right"),)
KEYPOINT_CONNECTION_RULES: Final = (
    ("centre", "top", (230, 80, 60)),
    ("centre", "right", (60, 180, 75)),
    ("centre", "bottom", (0, 130, 200)),
    ("centre", "left", (245, 130, 48)),
)

# The backgrounds of the stuff splits. Their ids follow those of the shapes, which start at 1.
STUFF_NAMES: Final = ("brick", "grass", "gravel")
FIRST_STUFF_ID: Final = len(CLASS_NAMES) + 1

# A split's place in this tuple seeds its images: append, never reorder.
SPLITS: Final = ("train", "heldout", "stuff_train", "stuff_heldout")
STUFF_SPLITS: Final = ("stuff_train", "stuff_heldout")
"""The splits in which every pixel has a class: a shape's or that of the background."""
DEFAULT_COUNTS: Final = {"train": 2000, "heldout": 200, "stuff_train": 1000, "stuff_heldout": 200}
DEFAULT_SEED: Final = 20240607

EXAMPLE_ROOT: Final = Path(__file__).resolve().parent
DEFAULT_DATA_ROOT: Final = EXAMPLE_ROOT / "data"
ANNOTATIONS_FILE: Final = "annotations.json"
IMAGES_FOLDER: Final = "images"
# Of stuff splits only; panoptic_files.py says what is in them.
STUFF_FOLDER: Final = "stuff"
SEMANTIC_FOLDER: Final = "semantic"
PANOPTIC_FOLDER: Final = "panoptic"
PANOPTIC_FILE: Final = "panoptic.json"


def check_split(split: str) -> None:
    """Raise ValueError naming the known splits when ``split`` is not one of them."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the splits are: {', '.join(SPLITS)}")
