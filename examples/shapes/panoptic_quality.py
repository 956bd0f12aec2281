"""Panoptic quality, as Kirillov et al. define it in "Panoptic Segmentation" (2019).

detectron2 measures it with panopticapi, which PyPI does not have. This gives the same numbers, to
the last digit on the example model. A predicted and a true segment of one class match when their
intersection is more than half of their union, so each has at most one partner; the quality of a
class is the sum of the matches' IoU over matches plus half of what has no match on either side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from numpy.typing import NDArray
from PIL import Image

from examples.shapes.panoptic_files import read_panoptic

LabelMap = NDArray[np.int64]


@dataclass
class Tally:
    """Of one class over all images."""

    iou: float = 0.0
    matched: int = 0
    spurious: int = 0
    missed: int = 0

    @property
    def quality(self) -> float:
        """Between 0 and 1; 0 for a class that nobody saw."""
        count = self.matched + 0.5 * self.spurious + 0.5 * self.missed
        return self.iou / count if count else 0.0


@dataclass
class PanopticQuality:
    """Adds up images one after another. Segment id 0 is no segment, on either side."""

    tallies: dict[int, Tally] = field(default_factory=lambda: defaultdict(Tally))

    def add(
        self,
        predicted: LabelMap,
        predicted_class: Mapping[int, int],
        true: LabelMap,
        true_class: Mapping[int, int],
    ) -> None:
        """Count one image: maps of segment ids of equal size, and each segment's class."""
        if predicted.shape != true.shape:
            raise ValueError(f"the prediction is {predicted.shape}, the truth {true.shape} in size")
        pairs, overlaps = np.unique(
            np.stack([predicted.ravel(), true.ravel()]), axis=1, return_counts=True
        )
        area_of: dict[tuple[str, int], int] = defaultdict(int)
        for (found, wanted), overlap in zip(pairs.T.tolist(), overlaps.tolist(), strict=True):
            area_of["predicted", found] += overlap
            area_of["true", wanted] += overlap
            if wanted == 0:
                area_of["unlabelled", found] += overlap
        partners: set[tuple[str, int]] = set()
        for (found, wanted), overlap in zip(pairs.T.tolist(), overlaps.tolist(), strict=True):
            if 0 in (found, wanted) or predicted_class[found] != true_class[wanted]:
                continue
            # Pixels that nobody labelled count neither for nor against a prediction.
            union = (
                area_of["predicted", found]
                - area_of["unlabelled", found]
                + area_of["true", wanted]
                - overlap
            )
            if overlap > 0.5 * union:
                tally = self.tallies[true_class[wanted]]
                tally.iou += overlap / union
                tally.matched += 1
                partners |= {("predicted", found), ("true", wanted)}
        for found, category in predicted_class.items():
            unlabelled = area_of["unlabelled", found] > 0.5 * area_of["predicted", found]
            if ("predicted", found) not in partners and not unlabelled:
                self.tallies[category].spurious += 1
        for wanted, category in true_class.items():
            self.tallies[category].missed += ("true", wanted) not in partners

    def mean(self, categories: Sequence[int]) -> float:
        """Mean quality of these classes, between 0 and 1; classes that nobody saw are left out."""
        seen = [self.tallies[number].quality for number in categories if number in self.tallies]
        return sum(seen) / len(seen) if seen else 0.0


class PanopticQualityEvaluator(DatasetEvaluator):  # type: ignore[misc]
    """PQ in percent of all classes, of things and of stuff, as detectron2's evaluators report."""

    def __init__(self, dataset: str) -> None:
        metadata = MetadataCatalog.get(dataset)
        self._thing_ids = {n: i for i, n in metadata.thing_dataset_id_to_contiguous_id.items()}
        self._stuff_ids = {n: i for i, n in metadata.stuff_dataset_id_to_contiguous_id.items()}
        self._label_divisor = metadata.label_divisor
        self._truth = read_panoptic(metadata.panoptic_json, metadata.panoptic_root)
        self._image_ids = {row["file_name"]: row["image_id"] for row in DatasetCatalog.get(dataset)}
        self.reset()

    def reset(self) -> None:
        self._quality = PanopticQuality()

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        for row, output in zip(inputs, outputs, strict=True):
            segments, classes = self._prediction(*output["panoptic_seg"])
            path, true_classes = self._truth[self._image_ids[row["file_name"]]]
            colours = np.asarray(Image.open(path), dtype=np.int64)
            true = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
            self._quality.add(segments, classes, true, true_classes)

    def _prediction(
        self, segments: Any, described: list[dict[str, Any]] | None
    ) -> tuple[LabelMap, dict[int, int]]:
        """The map of segment ids, and the class of each id."""
        labels = segments.numpy().astype(np.int64)
        if described is None:  # a label is the class times the divisor, plus a number; -1 is none
            known = self._stuff_ids | self._thing_ids
            found = np.unique(labels[labels >= 0]).tolist()
            return labels + 1, {n + 1: known[n // self._label_divisor] for n in found}
        return labels, {
            segment["id"]: (self._thing_ids if segment["isthing"] else self._stuff_ids)[
                segment["category_id"]
            ]
            for segment in described
        }

    def evaluate(self) -> dict[str, dict[str, float]]:
        things = list(self._thing_ids.values())
        stuff = [number for label, number in self._stuff_ids.items() if label > 0]
        groups = {"PQ": things + stuff, "PQ_things": things, "PQ_stuff": stuff}
        return {"panoptic": {name: 100.0 * self._quality.mean(ids) for name, ids in groups.items()}}
