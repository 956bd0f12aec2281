"""Writes a split as a COCO data set, so that every tool that reads COCO can use it.

Masks are run-length encoded, since a shape seen behind another may be in pieces or have a hole,
which a polygon cannot say. Images are spread over processes; each depends only on the seed, its
split and its index, so neither their number nor the order changes any of them.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.progress import track

from examples.shapes.panoptic_files import make_folders, panoptic_categories, write_labels
from examples.shapes.scene import SceneInstance, render_scene
from examples.shapes.schema import (
    ANNOTATIONS_FILE,
    CLASS_NAMES,
    DEFAULT_COUNTS,
    DEFAULT_DATA_ROOT,
    DEFAULT_SEED,
    IMAGES_FOLDER,
    KEYPOINT_NAMES,
    PANOPTIC_FILE,
    PANOPTIC_FOLDER,
    SEMANTIC_FOLDER,
    SPLITS,
    STUFF_SPLITS,
    check_split,
)

JPEG_QUALITY = 92
# COCO's ids start at 1; an image's annotations get a block of ids of their own.
_ANNOTATION_IDS_PER_IMAGE = 100


@dataclass(frozen=True)
class SplitFiles:
    """What is in a generated split's folder; the last three are of stuff splits only.

    ``images`` and ``semantic`` (one label for each class, as PNG) are in the same order.
    """

    images: list[Path]
    annotations: Path
    semantic: list[Path]
    panoptic: Path | None
    panoptic_folder: Path | None


def split_files(folder: Path) -> SplitFiles:
    """The files that ``generate_split`` wrote into ``folder``."""
    labelled = (folder / PANOPTIC_FILE).is_file()
    return SplitFiles(
        images=sorted((folder / IMAGES_FOLDER).glob("*.jpg")),
        annotations=folder / ANNOTATIONS_FILE,
        semantic=sorted((folder / SEMANTIC_FOLDER).glob("*.png")),
        panoptic=folder / PANOPTIC_FILE if labelled else None,
        panoptic_folder=folder / PANOPTIC_FOLDER if labelled else None,
    )


def generate_split(output: Path, split: str, count: int, seed: int = DEFAULT_SEED) -> Path:
    """Write images 0 to ``count`` - 1 of a split under ``output`` and return its annotations.

    ``output`` gets an ``images`` folder and ``annotations.json``, and for a stuff split also what
    panoptic_files.py describes. A ValueError names what is wrong with an unknown split or a count
    below 1.
    """
    check_split(split)
    if count < 1:
        raise ValueError(f"asked for {count} images; a data set needs at least 1")
    (output / IMAGES_FOLDER).mkdir(parents=True, exist_ok=True)
    if split in STUFF_SPLITS:
        make_folders(output)
    write = partial(_write_image, output, split, seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        written = pool.map(write, range(count), chunksize=8)
        bar = track(written, f"drawing {split}", total=count, console=Console(stderr=True))
        for image, image_annotations, image_panoptic in bar:
            images.append(image)
            annotations.extend(image_annotations)
            panoptic.extend(image_panoptic)
    info = {"description": f"d2serve shapes, split {split}, seed {seed}"}
    document = {
        "info": info,
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "keypoints": list(KEYPOINT_NAMES), "skeleton": []}
            for number, name in enumerate(CLASS_NAMES, start=1)
        ],
    }
    annotations_file = output / ANNOTATIONS_FILE
    annotations_file.write_text(json.dumps(document))
    if panoptic:
        categories = panoptic_categories()
        (output / PANOPTIC_FILE).write_text(
            json.dumps(
                {"info": info, "images": images, "annotations": panoptic, "categories": categories}
            )
        )
    return annotations_file


def _write_image(
    output: Path, split: str, seed: int, index: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    scene = render_scene(split, index, seed)
    stem = f"{index:06d}"
    file_name = f"{stem}.jpg"
    Image.fromarray(scene.image).save(output / IMAGES_FOLDER / file_name, quality=JPEG_QUALITY)
    height, width = scene.image.shape[:2]
    image = {"id": index + 1, "file_name": file_name, "height": height, "width": width}
    first_id = index * _ANNOTATION_IDS_PER_IMAGE + 1
    annotations = [
        _annotation(instance, image_id=index + 1, annotation_id=first_id + number)
        for number, instance in enumerate(scene.instances)
    ]
    panoptic = [] if scene.stuff is None else [write_labels(output, stem, index + 1, scene)]
    return image, annotations, panoptic


def _annotation(instance: SceneInstance, image_id: int, annotation_id: int) -> dict[str, Any]:
    run_lengths = coco_mask.encode(np.asfortranarray(instance.mask, dtype=np.uint8))
    keypoints = instance.keypoints.copy()
    annotated = keypoints[:, 2] > 0
    # COCO counts keypoints from pixel centres, and detectron2 adds this half pixel again.
    keypoints[annotated, :2] -= 0.5
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": instance.category + 1,
        "iscrowd": 0,
        "area": int(coco_mask.area(run_lengths)),
        "bbox": [float(edge) for edge in coco_mask.toBbox(run_lengths)],
        "segmentation": {
            "size": [int(edge) for edge in run_lengths["size"]],
            "counts": run_lengths["counts"].decode("ascii"),
        },
        "keypoints": [round(float(value), 3) for value in keypoints.ravel()],
        "num_keypoints": int(annotated.sum()),
    }


def main(
    split: Annotated[str, typer.Option(help=", ".join(SPLITS))],
    output: Annotated[
        Path | None, typer.Option(help="folder to write [default: examples/shapes/data/SPLIT]")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(help="number of images [default: 200 held out, more to train]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="the same seed draws the same images")] = DEFAULT_SEED,
) -> None:
    """Draw a split of the shapes data set and write it in COCO format."""
    try:
        check_split(split)
        images = DEFAULT_COUNTS[split] if count is None else count
        annotations = generate_split(output or DEFAULT_DATA_ROOT / split, split, images, seed)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"wrote {annotations}")


if __name__ == "__main__":
    typer.run(main)
