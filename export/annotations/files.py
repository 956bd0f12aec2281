"""Reads COCO annotation files, and says what is wrong with what only looks like one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from d2serve.export.errors import EvaluationError, one_line

Coco = dict[str, Any]
"""The content of a COCO annotation file, or what is like it."""

_PARTS = {
    "images": ("file_name",),  # what they lack beside it is said once they are found to be there
    "annotations": ("image_id", "category_id"),
    "categories": ("id", "name"),
}
_ORIENTATION = 0x0112  # EXIF's; from 5 on a photo lies on its side


def read_coco(file: Path) -> Coco:
    """The content of an annotation file.

    Raises:
        EvaluationError: it is not there, or not COCO's format.
    """
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise _format_error(file, one_line(error)) from error
    check_parts(content, file)
    return dict(content)


def check_parts(content: Any, source: object) -> None:
    """Make sure that all parts of COCO's format are there, each with what names it.

    Args:
        content: that should be ``Coco``.
        source: named in the error.

    Raises:
        EvaluationError: one is missing.
    """
    if not isinstance(content, dict):
        raise _format_error(source, f"it holds a {type(content).__name__}, not an object")
    missing = [part for part in _PARTS if part not in content]
    if missing:
        found = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise _format_error(source, f"it has no {' and no '.join(missing)}, but {found}")
    for part, keys in _PARTS.items():
        entries = content[part]
        if not isinstance(entries, list):
            raise _format_error(source, f"{part} is a {type(entries).__name__}, not a list")
        for number, entry in enumerate(entries):
            lacking = [k for k in keys if not isinstance(entry, dict) or entry.get(k) is None]
            if lacking:
                raise _format_error(source, f"{part}[{number}] has no {' and no '.join(lacking)}")
            for key in ("id", "image_id", "category_id"):
                if not _is_id(entry.get(key, 0)):
                    raise _format_error(
                        source, f"{part}[{number}] has the {key} {entry[key]!r}, no number or text"
                    )
        if part != "annotations":  # whose ids nobody refers to
            ids = Counter(key_of(entry["id"]) for entry in entries if "id" in entry)
            if ids and ids.most_common(1)[0][1] > 1:
                raise _format_error(source, f"two {part} have the id {ids.most_common(1)[0][0]}")


def _format_error(source: object, problem: str) -> EvaluationError:
    return EvaluationError(
        f"{source} cannot be read as COCO annotations ({problem}). Expected a JSON file with "
        "'images' (id, file_name), 'annotations' (image_id, category_id, bbox) and 'categories' "
        "(id, name); LabelMe, VGG, YOLO and Pascal VOC have others, which converters bring to it."
    )


def key_of(given: Any) -> str:
    """An id as text: 7, 7.0 and "7" are one, as converters write them in images and annotations."""
    return str(int(given)) if isinstance(given, float) and given.is_integer() else str(given)


def _is_id(value: object) -> bool:
    return isinstance(value, (int, float, str)) or value is None


def require_ids(content: Coco, source: object) -> None:
    """Make sure that annotations can refer to the images.

    Raises:
        EvaluationError: an image has no id.
    """
    for number, image in enumerate(content["images"]):
        if image.get("id") is None:
            raise _format_error(source, f"images[{number}] has no id")


def require_images(files: list[Path], source: object, root: Path) -> None:
    """Make sure that image files are there.

    Raises:
        EvaluationError: how many are not.
    """
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise EvaluationError(
            f"{len(missing)} of the {len(files)} images of {source} are not in {root} "
            f"(first: {missing[0] if missing else 'none listed'}). Check --image-root."
        )


def size_of(file: Path) -> tuple[int, int]:
    """(height, width) of an image as it is seen: EXIF's orientation turns it.

    Raises:
        EvaluationError: it is no image.
    """
    try:
        with Image.open(file) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) >= 5
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise EvaluationError(
            f"The image {file} cannot be read ({one_line(error, 200)}). Replace it, or leave it "
            "out of the annotations."
        ) from error
    return (width, height) if turned else (height, width)
