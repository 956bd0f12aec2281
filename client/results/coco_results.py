"""Predictions as COCO results: what ``COCO.loadRes`` of pycocotools takes, and evaluators ask for.

An entry is as detectron2's COCOEvaluator writes it: an upright box as x, y, width and height, masks
as run lengths, keypoints as pixel indices (half a pixel less than detectron2's coordinates). What a
COCO result cannot hold is left out: label maps, proposals, segments, and fields of a model's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Union

import numpy as np
import orjson

from d2serve.client.errors import InvalidInput
from d2serve.client.results.instances import XYXY, Instance
from d2serve.client.results.prediction import Prediction
from d2serve.client.whole_files import written_whole

ImageId = Union[int, str]
CategoryId = Union[int, str]

_SHOWN = 5


class NoCocoResults(InvalidInput):
    """What a model predicts has no place in COCO results, whatever the image."""


@dataclass(frozen=True)
class CocoIds:
    """The ids of a data set: of its images by file name, of its categories by class."""

    source: str
    """The annotation file, for errors."""
    images: Mapping[str, tuple[tuple[tuple[str, ...], ImageId], ...]]
    """By the last part of its path: all parts of the path, and the id."""
    categories: tuple[tuple[CategoryId, str], ...]
    """Their ids, rising, and names: the class of index N is the N-th, as detectron2 reads it."""

    @staticmethod
    def read(annotations: Path) -> CocoIds:
        """The ids of a COCO annotation file.

        Raises:
            InvalidInput: it cannot be read, or is none.
        """
        try:
            content = orjson.loads(annotations.read_bytes())
            images: dict[str, list[tuple[tuple[str, ...], ImageId]]] = {}
            for each in content["images"]:
                parts = _parts(each["file_name"])
                images.setdefault(parts[-1], []).append((parts, each["id"]))
            categories = sorted((each["id"], str(each["name"])) for each in content["categories"])
        except OSError as error:
            raise InvalidInput(
                f"The annotations {annotations} cannot be read ({error.strerror or error})."
            ) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InvalidInput(
                f"{annotations} has no COCO annotations ({type(error).__name__}: {error}): "
                "expected JSON with images (id, file_name) and categories (id, name)."
            ) from error
        by_name = {name: tuple(each) for name, each in images.items()}
        return CocoIds(str(annotations), by_name, tuple(categories))

    def image_id(self, name: str) -> ImageId:
        """The id of an image file.

        Args:
            name: its path, of which the end is the ``file_name`` of the data set, or the other way
                round; of an image in a shard, ``SHARD::MEMBER``.

        Raises:
            InvalidInput: the data set has no such image, or several.
        """
        parts = _parts(name.rpartition("::")[2])
        alike = self.images.get(parts[-1], ())
        found = [(parts_there, id) for parts_there, id in alike if _ends_alike(parts, parts_there)]
        most = max((len(parts_there) for parts_there, _ in found), default=0)
        ids = {id for parts_there, id in found if len(parts_there) == most}
        if len(ids) == 1:
            return ids.pop()
        if ids:
            raise InvalidInput(
                f"{self.source} has {len(ids)} images that {name} may be. Give it with the folders "
                "that tell them apart."
            )
        near = alike or tuple(each for some in self.images.values() for each in some)
        raise InvalidInput(
            f"{self.source} has no image {name}; it has {_listed('/'.join(p) for p, _ in near)}. "
            "Give the images that were annotated, under the paths that the annotations have."
        )

    def category_id(self, instance: Instance) -> CategoryId | None:
        """The id of an instance's category: by the name of its class; None where the data set has
        none of this name. Of a model without names, that of the class's place.

        Raises:
            InvalidInput: the model has no names, and more classes than the data set; or several
                categories have the name.
        """
        name, number = instance.category_name, instance.category_id
        here = self.categories[number] if number < len(self.categories) else None
        if here is not None and name in (None, here[1]):
            return here[0]
        if name is None:
            raise InvalidInput(
                f"The model knows no names of its classes and found class {number}, where "
                f"{self.source} has {len(self.categories)} categories: nothing says which is "
                "which. Export the model again with --class-names, in the order of training."
            )
        named = self._by_name.get(name) or self._by_name.get(_plain(name), ())
        if len(named) > 1:
            raise InvalidInput(
                f"{self.source} has {len(named)} categories named {name}: nothing says which of "
                f"them, {_listed(map(str, named))}, the model's class {number} is."
            )
        return named[0] if named else None

    @cached_property
    def _by_name(self) -> Mapping[str, Sequence[CategoryId]]:
        """Ids of categories, by their names as they are and by what is plain in them."""
        ids: dict[str, list[CategoryId]] = {}
        for id, name in self.categories:
            for key in {name, _plain(name)}:
                ids.setdefault(key, []).append(id)
        return ids

    def strangers(self, prediction: Prediction) -> Counter[str]:
        """How many instances have a class that is no category of the data set, by its name."""
        classes = (each for each in prediction.instances if self.category_id(each) is None)
        return Counter(each.label() for each in classes)


def coco_results(prediction: Prediction, image_id: ImageId, ids: CocoIds) -> list[dict[str, Any]]:
    """One entry for each instance, by falling score, as ``COCO.loadRes`` takes them.

    Instances of classes that the data set has not (``CocoIds.strangers``) are left out.

    Raises:
        NoCocoResults: the model predicts no instances, or rotated boxes.
        InvalidInput: see ``CocoIds.category_id``.
        MalformedReply: a mask cannot be unpacked.
    """
    if not prediction.has_instances:
        raise NoCocoResults(
            f"COCO results hold instances, and the model {prediction.model} predicts none."
        )
    return [
        _result(each, image_id, category)
        for each, category in ((each, ids.category_id(each)) for each in prediction.instances)
        if category is not None
    ]


def _result(instance: Instance, image_id: ImageId, category_id: CategoryId) -> dict[str, Any]:
    if instance.bbox_mode != XYXY:
        raise NoCocoResults(
            f"The model predicts boxes of the mode {instance.bbox_mode}, and those of COCO results "
            "are upright. detectron2's RotatedCOCOEvaluator judges rotated ones."
        )
    # In float32, as detectron2 subtracts.
    x0, y0, x1, y1 = np.array(instance.bbox, np.float32)
    result: dict[str, Any] = {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [float(each) for each in (x0, y0, x1 - x0, y1 - y0)],
        "score": instance.score,
    }
    if instance.segmentation is not None:
        result["segmentation"] = dict(instance.segmentation.rle())
    if instance.keypoints is not None:
        points = np.array(instance.keypoints, np.float32).reshape(-1, 3)
        points[:, :2] -= 0.5
        result["keypoints"] = points.ravel().tolist()
    return result


class CocoResults:
    """A file of COCO results that is being written, image by image."""

    def __init__(self, ids: CocoIds, file: BinaryIO) -> None:
        self._ids = ids
        self._file = file
        self._strangers: Counter[str] = Counter()
        self.entries = 0
        """Written so far."""

    @staticmethod
    @contextmanager
    def writing(path: Path, ids: CocoIds) -> Iterator[CocoResults]:
        """A file at ``path``, there in one step when the block ends well.

        Raises:
            InvalidInput: it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as file:
                file.write(b"[")
                yield CocoResults(ids, file)
                file.write(b"]\n")
        except OSError as error:
            raise InvalidInput(
                f"The COCO results {path} cannot be written ({error.strerror or error})."
            ) from error

    def add(self, image: str, prediction: Prediction) -> None:
        """Write the answer to an image file of this path.

        Raises:
            InvalidInput: see ``coco_results`` and ``CocoIds.image_id``; nothing was written.
        """
        self.add_all(coco_results(prediction, self._ids.image_id(image), self._ids))
        self._strangers.update(self._ids.strangers(prediction))

    def add_all(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Write what ``coco_results`` gave."""
        for each in results:
            self._file.write((b",\n" if self.entries else b"") + orjson.dumps(each))
            self.entries += 1

    def left_out(self) -> str | None:
        """What is not in the file, as a sentence; None where all is."""
        if not self._strangers:
            return None
        classes = _listed(f"{name} ({count})" for name, count in self._strangers.most_common())
        return (
            f"{sum(self._strangers.values())} instances are not in the COCO results: "
            f"{self._ids.source} has no category named as their classes, {classes}."
        )


def _parts(path: str) -> tuple[str, ...]:
    parts = tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))
    return parts or ("",)


def _ends_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one path is the end of the other."""
    shorter = min(len(one), len(other))
    return one[-shorter:] == other[-shorter:]


def _plain(name: str) -> str:
    """A name without what is written in several ways: case, spaces, underlines."""
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def _listed(texts: Iterable[str]) -> str:
    every = list(texts)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return (", ".join(every[:_SHOWN]) + more) or "none"
