"""The data sets that models are judged on: registered ones, and files that a user names.

All that does not fit a model is said here, before any image is run. What is left goes to
detectron2's own evaluators, as data sets that they find under names of our own.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.utils.file_io import PathManager

from d2serve.export.annotations.expectations import Expectations
from d2serve.export.annotations.files import (
    Coco,
    check_parts,
    key_of,
    read_coco,
    require_ids,
    require_images,
    size_of,
)
from d2serve.export.annotations.label_sets import registered_labels
from d2serve.export.annotations.mending import mend
from d2serve.export.errors import EvaluationError, one_line
from d2serve.handlers.spec.output_names import SEM_SEG, XYWHA_ABS

Record = dict[str, Any]
"""``file_name``, ``image_id``, ``height``, ``width``, and ``sem_seg_file_name`` where there is one.
"""
Source = str | tuple[Path, Path]
"""A registered data set's name, or an annotation file and the folder of its images."""

_OURS = "d2serve_evaluation"


@dataclass(frozen=True)
class EvaluationSet:
    """What a model is judged on."""

    name: str
    """For people."""
    records: tuple[Record, ...]
    instances: str | None
    """Where COCOEvaluator finds the annotations; None where only labels are judged."""
    tasks: tuple[str, ...]
    """Of COCOEvaluator."""
    labels: str | None
    """Where SemSegEvaluator finds the labels of pixels; None where there are none."""
    lacking: tuple[str, ...]
    """Tasks of the model that nothing here can judge."""
    annotations: int
    """How many instances are annotated."""
    notes: tuple[str, ...]
    """What does not fit, and what was done about it, in sentences."""


@contextmanager
def evaluation_set(source: Source, expected: Expectations) -> Iterator[EvaluationSet]:
    """A data set made ready to judge a model, as long as the context lasts.

    Args:
        source: what the user names.
        expected: what the model answers.

    Raises:
        EvaluationError: it is not there, is damaged, or does not fit the model.
    """
    family = expected.family
    if family.box_mode == XYWHA_ABS:
        raise EvaluationError(
            "Rotated boxes are evaluated by detectron2's RotatedCOCOEvaluator, which needs its "
            "compiled operators; it is not part of this command. Compare the answers themselves: "
            "`d2serve verify --images DIR`."
        )
    judges_instances = family.outputs != (SEM_SEG,)
    content: Coco | None
    if isinstance(source, str):
        name, records = source, records_of(source)
        content = _annotations_of(source, expected) if judges_instances else None
    else:
        file, root = source
        name, content = file.name, read_coco(file)
        records = _records_in(content, file, root)
    has_labels = SEM_SEG in family.outputs and all("sem_seg_file_name" in each for each in records)
    if not judges_instances and not has_labels:
        raise EvaluationError(
            f"{name} has no semantic labels (sem_seg_file_name), by which alone this model can "
            "be judged. Register a data set that has them (--import) and name it in the config's "
            "test data sets, then use --run-eval."
        )
    chosen = EvaluationSet(name, tuple(records), None, (), None, (), 0, ())
    with tempfile.TemporaryDirectory(prefix="d2serve-annotations-") as folder:
        try:
            if judges_instances:
                assert content is not None  # read above
                chosen = _with_instances(chosen, content, expected, Path(folder))
            if has_labels:
                labels, notes = registered_labels(
                    f"{_OURS}_labels", str(source), chosen.records, expected
                )
                chosen = replace(chosen, labels=labels, notes=(*chosen.notes, *notes))
            elif SEM_SEG in family.outputs:
                note = f"{name} has no semantic labels: the model's are not measured."
                chosen = replace(
                    chosen, lacking=(*chosen.lacking, "sem_seg"), notes=(*chosen.notes, note)
                )
            yield chosen
        finally:
            for each in (f"{_OURS}_instances", f"{_OURS}_labels"):
                DatasetCatalog.pop(each, None)
                MetadataCatalog.pop(each, None)


def _with_instances(
    chosen: EvaluationSet, content: Coco, expected: Expectations, folder: Path
) -> EvaluationSet:
    sizes = _sizes(chosen.records, content, chosen.name)
    mended = mend(content, sizes, expected, chosen.name)
    file = folder / "annotations.json"
    file.write_text(json.dumps(mended.content))
    ours = f"{_OURS}_instances"
    MetadataCatalog.get(ours).set(
        json_file=str(file),
        thing_classes=list(mended.class_names),
        thing_dataset_id_to_contiguous_id={n + 1: n for n in range(len(mended.class_names))},
    )
    records = tuple(
        {**each, "image_id": mended.image_ids[key_of(each["image_id"])]} for each in chosen.records
    )
    return replace(
        chosen,
        records=records,
        instances=ours,
        tasks=mended.tasks,
        lacking=mended.lacking,
        annotations=len(mended.content["annotations"]),
        notes=mended.notes,
    )


def _records_in(content: Coco, file: Path, root: Path) -> list[Record]:
    files = [root / str(image["file_name"]) for image in content["images"]]
    require_images(files, file, root)
    require_ids(content, file)
    return [
        {"file_name": str(path), "image_id": image["id"]}
        for path, image in zip(files, content["images"])
    ]


def records_of(dataset: str) -> list[Record]:
    """The images of a registered data set.

    Raises:
        EvaluationError: it or an image of it is not there.
    """
    try:
        records: list[Record] = list(DatasetCatalog.get(dataset))
    # It is the user's own function, or detectron2's reading of the user's own file.
    except Exception as error:
        raise EvaluationError(
            f"The data set {dataset} cannot be loaded ({one_line(error)}). Name the module that "
            "registers it (--import), set DETECTRON2_DATASETS, or name files: --coco-json F "
            "--image-root D."
        ) from error
    files = [Path(str(each.get("file_name"))) for each in records]
    require_images(files, dataset, files[0].parent if files else Path())
    return [
        {
            "file_name": each["file_name"],
            "image_id": each.get("image_id", each["file_name"]),
            **{key: each[key] for key in ("sem_seg_file_name",) if key in each},
        }
        for each in records
    ]


def _annotations_of(dataset: str, expected: Expectations) -> Coco:
    """The COCO annotations of a registered data set, which it has in a file or in its records."""
    metadata = MetadataCatalog.get(dataset)
    file = metadata.get("json_file")
    if file is not None:
        content = read_coco(Path(PathManager.get_local_path(str(file))))
        require_ids(content, dataset)
        return content
    if metadata.get("thing_classes") is None and expected.class_names is not None:
        metadata.set(thing_classes=list(expected.class_names))  # its records have class indices
    try:
        content = convert_to_coco_dict(dataset)
    except Exception as error:  # of what a user's own function returned
        raise EvaluationError(
            f"The records of {dataset} cannot be brought into COCO's form ({type(error).__name__}: "
            f"{one_line(error)}). Expected detectron2's standard records, with height, width, "
            "image_id and annotations, and thing_classes in the metadata."
        ) from error
    check_parts(content, dataset)
    require_ids(content, dataset)
    return dict(content)


def _sizes(records: tuple[Record, ...], content: Coco, source: str) -> dict[str, tuple[int, int]]:
    """The sizes of the image files, which must be those that the annotations are made for."""
    said = {key_of(image["id"]): image for image in content["images"]}
    sizes: dict[str, tuple[int, int]] = {}
    wrong: list[str] = []
    for record in records:
        file, key = Path(record["file_name"]), key_of(record["image_id"])
        height, width = sizes[key] = size_of(file)
        image = said.get(key, {})
        noted = (image.get("height") or height, image.get("width") or width)
        if noted != (height, width):
            wrong.append(f"{file.name} is {width}x{height}, not {noted[1]}x{noted[0]}")
    if wrong:
        raise EvaluationError(
            f"{len(wrong)} of the {len(sizes)} images are not of the size that {source} says "
            f"({'; '.join(wrong[:3])}), so its annotations are of other pictures, or of these "
            "before they were resized or turned (EXIF). Give the images that were annotated: "
            "--image-root."
        )
    return sizes
