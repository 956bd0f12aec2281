"""Makes COCO's own form of annotations as people have them: for a model, whole, and with its ids.

pycocotools and detectron2's COCOEvaluator take what COCO has for granted: ``iscrowd``, ``area``, a
segmentation where masks are judged, keypoints where those are. They end in a KeyError, after the
whole data set was run. What can be filled in is, as COCO has it, and said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from d2serve.export.annotations.categories import match_categories
from d2serve.export.annotations.expectations import Expectations
from d2serve.export.annotations.files import Coco, key_of
from d2serve.export.annotations.shapes import (
    area_of,
    box_of,
    keypoints_of,
    segmentation_of,
)
from d2serve.export.errors import EvaluationError
from d2serve.handlers.spec.output_names import BOXES, KEYPOINTS, MASKS

Sizes = Mapping[str, tuple[int, int]]
"""(height, width) of the images, by id as text."""

_COCO_KEYPOINTS = 17
_NOT_COUNTED = "where they lie, nothing counts for or against the model"


@dataclass(frozen=True)
class Mended:
    """Annotations that detectron2's COCOEvaluator judges a model by."""

    content: Coco
    """Categories are the classes in order, with ids from 1; images have ids from 1, too."""
    class_names: tuple[str, ...]
    image_ids: Mapping[str, int]
    """The new id of each image, by its own as text."""
    tasks: tuple[str, ...]
    """Of COCOEvaluator: what both the model and the annotations have."""
    lacking: tuple[str, ...]
    """Tasks that the annotations do not have."""
    notes: tuple[str, ...]


def mend(content: Coco, sizes: Sizes, expected: Expectations, source: object) -> Mended:
    """Bring annotations into COCO's own form.

    Args:
        content: with all parts of the format; see ``files.check_parts``.
        sizes: of the images to judge; annotations of others are left out.
        expected: what the model answers.
        source: named in notes and errors.

    Raises:
        EvaluationError: what does not fit the model and cannot be filled in.
    """
    known = {key_of(each["id"]) for each in content["categories"]}
    for each in content["annotations"]:
        if key_of(each["category_id"]) not in known:
            raise EvaluationError(
                f"An annotation of {source} has category_id {each['category_id']!r}, which is no "
                f"category of it (ids {', '.join(sorted(known))}). Is one "
                "numbered from 0 and the other from 1?"
            )
    annotated = Counter(
        key_of(each["category_id"])
        for each in content["annotations"]
        if key_of(each["image_id"]) in sizes
    )
    matching = match_categories(
        content["categories"],
        annotated,
        expected.class_names,
        expected.family.num_classes,
        source,
    )
    image_ids = {key: number for number, key in enumerate(sizes, 1)}
    filled: Counter[str] = Counter()
    kept: list[dict[str, Any]] = []
    for number, each in enumerate(content["annotations"]):
        key = key_of(each["image_id"])
        if key not in sizes:
            filled["are of images that are not listed, and left out"] += 1
        elif (class_of := matching.class_of.get(key_of(each["category_id"]))) is not None:
            one = _filled(each, number, *sizes[key], filled, source)
            one["image_id"] = image_ids[key]
            one["category_id"] = class_of + 1
            kept.append({"id": len(kept) + 1, **one})
    if not kept:
        raise EvaluationError(
            f"{source} has no annotation of the model's classes in its {len(sizes)} images, so "
            "there is nothing to judge the model by."
        )
    tasks, lacking, notes = _tasks(kept, expected, source)
    if "segm" in tasks:
        _leave_out_without_masks(kept, filled)
    notes += [f"{count} annotations of {source} {what}." for what, count in filled.items()]
    images = [
        {"id": image_ids[key], "height": height, "width": width, "file_name": key}
        for key, (height, width) in sizes.items()
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(matching.names, 1)]
    mended = {"info": {}, "images": images, "annotations": kept, "categories": categories}
    return Mended(mended, matching.names, image_ids, tasks, lacking, (*matching.notes, *notes))


def _filled(
    annotation: Mapping[str, Any],
    number: int,
    height: int,
    width: int,
    filled: Counter[str],
    source: object,
) -> dict[str, Any]:
    shape = segmentation_of(annotation, height, width)
    box, has_box = box_of(annotation, shape)
    if box is None:
        raise EvaluationError(
            f"annotations[{number}] of {source} has the bbox {annotation.get('bbox')!r}, expected "
            "x, y, width and height in pixels, or a segmentation, of which they can be had."
        )
    if not has_box:
        filled["have no bbox: that of the segmentation is taken"] += 1
    area, has_area = area_of(annotation, shape, box, height, width)
    if not has_area:
        filled[
            "have no area: that of the segmentation, or of the box, is taken, as COCO has it"
        ] += 1
    crowd = annotation.get("iscrowd")
    if crowd is None:
        filled["have no iscrowd: 0 is taken"] += 1
    if annotation.get("ignore"):
        filled[f"are marked 'ignore': {_NOT_COUNTED}"] += 1
        crowd = 1
    one: dict[str, Any] = {"bbox": box, "area": area, "iscrowd": int(bool(crowd))}
    if shape is not None:
        one["segmentation"] = shape
    keypoints = keypoints_of(annotation)
    if keypoints:
        one["keypoints"] = keypoints
    return one


def _tasks(
    kept: list[dict[str, Any]], expected: Expectations, source: object
) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    outputs = expected.family.outputs
    if BOXES not in outputs:
        return ("bbox",), (), []
    tasks, lacking, notes = ["bbox"], [], []
    for output, task, key, what in (
        (MASKS, "segm", "segmentation", "masks"),
        (KEYPOINTS, "keypoints", "keypoints", "keypoints"),
    ):
        if output not in outputs:
            continue
        if any(key in each for each in kept):
            tasks.append(task)
        else:
            lacking.append(task)
            notes.append(
                f"The annotations of {source} have no {key} that can be read: the model's {what} "
                "are not measured."
            )
    if "keypoints" in tasks:
        _fill_keypoints(kept, expected, source)
    return tuple(tasks), tuple(lacking), notes


def _fill_keypoints(kept: list[dict[str, Any]], expected: Expectations, source: object) -> None:
    lengths = Counter(len(each["keypoints"]) for each in kept if "keypoints" in each)
    got = lengths.most_common(1)[0][0]
    number = expected.num_keypoints or got // 3
    if set(lengths) != {3 * number}:
        raise EvaluationError(
            f"Annotations of {source} have keypoints of {', '.join(map(str, sorted(lengths)))} "
            f"numbers, expected {3 * number}: x, y and visibility of the model's {number}."
        )
    sigmas = expected.sigmas
    if len(sigmas or range(_COCO_KEYPOINTS)) != number:
        example = f"[{', '.join(['0.05'] * number)}]"
        how = (
            f'add them to the command, for example TEST.KEYPOINT_OKS_SIGMAS "{example}"'
            if expected.by_yaml
            else f"set dataloader.evaluator.kpt_oks_sigmas in the config, for example to {example}"
        )
        raise EvaluationError(
            f"The config has {f'{len(sigmas)} OKS sigmas' if sigmas else 'no OKS sigmas'}, the "
            f"model {number} keypoints: the AP of keypoints is measured with one sigma for each, "
            f"and COCO's own are for {_COCO_KEYPOINTS}. A sigma is how far apart people place the "
            f"same keypoint; {how}"
        )
    for each in kept:
        each.setdefault("keypoints", [0.0] * 3 * number)
        each["num_keypoints"] = sum(seen > 0 for seen in each["keypoints"][2::3])


def _leave_out_without_masks(kept: list[dict[str, Any]], filled: Counter[str]) -> None:
    for each in kept:
        if "segmentation" not in each:
            filled[f"have no segmentation that can be read: {_NOT_COUNTED}"] += 1
            x, y, width, height = each["bbox"]
            right, bottom = x + width, y + height
            each["segmentation"] = [[x, y, right, y, right, bottom, x, bottom]]
            each["iscrowd"] = 1
