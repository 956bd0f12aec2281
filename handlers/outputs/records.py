"""The records of what was found in an image, from postprocessing to encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from d2serve.handlers.outputs.rle import Rle, decode_mask
from d2serve.handlers.runtimes.raw_outputs import Float32 as Float32

Int32 = npt.NDArray[np.int32]
Extras = Mapping[str, npt.NDArray[np.generic]]
"""What a model answers beyond detectron2's own fields, by name."""


@dataclass(frozen=True, repr=False)
class Detections:
    """Instances of one image, by falling score, in pixels of the image as it was sent."""

    height: int
    width: int
    boxes: Float32
    """(N, 4) x0, y0, x1, y1 (XYXY_ABS), or (N, 5) with centre, width, height and the angle in
    degrees, counter-clockwise (XYWHA_ABS)."""
    scores: Float32
    """(N,)"""
    classes: npt.NDArray[np.int64]
    """(N,) detectron2's contiguous class index."""
    masks: tuple[Rle, ...] | None
    """N COCO run-length encodings of the whole image, or None where the model has no masks."""
    keypoints: Float32 | None
    """(N, K, 3) x, y, score, or None where the model has no keypoints."""
    extra: Extras = field(default_factory=dict)
    """(N, ...) each: the fields of the model's own."""

    def __len__(self) -> int:
        return len(self.scores)

    def bitmasks(self) -> npt.NDArray[np.bool_]:
        """The masks as (N, H, W) booleans.

        Raises:
            ValueError: the model has no masks.
        """
        if self.masks is None:
            raise ValueError("these detections have no masks: the model predicts none")
        unpacked = np.zeros((len(self), self.height, self.width), np.bool_)
        for whole, mask in zip(unpacked, self.masks):
            columns, first = decode_mask(mask)
            whole[:, first : first + columns.shape[1]] = columns
        return unpacked

    def __repr__(self) -> str:
        said = [f"{len(self)} in {self.height} x {self.width} pixels", f"boxes {self.boxes.shape}"]
        if len(self):
            said.append(f"scores {self.scores.max():.3f} to {self.scores.min():.3f}")
        said += ["masks"] * (self.masks is not None)
        said += [] if self.keypoints is None else [f"keypoints {self.keypoints.shape}"]
        return f"Detections({', '.join([*said, *_said_of(self.extra)])})"


@dataclass(frozen=True, repr=False)
class Proposals:
    """Where a region proposal network sees objects, in pixels of the image as it was sent."""

    boxes: Float32
    """(N, 4) x0, y0, x1, y1 (XYXY_ABS)."""
    objectness_logits: Float32
    """(N,) falling."""

    def __len__(self) -> int:
        return len(self.objectness_logits)

    def __repr__(self) -> str:
        return f"Proposals({len(self)}, boxes {self.boxes.shape})"


@dataclass(frozen=True)
class Segment:
    """One thing, or all of one kind of stuff, as detectron2's ``segments_info`` has it."""

    id: int
    """Its value in the label map, from 1 on."""
    category_id: int
    """Of a thing, the class index of instances; of stuff, the label of sem_seg."""
    isthing: bool
    area: int
    """Pixels that have its id."""
    score: float | None
    """Of a thing, where the model gives it one; None for stuff."""
    instance_id: int | None
    """Of a thing, its index into the instances, None where that is left out or the model does not
    say; None for stuff."""
    label: int | None = None
    """Where detectron2 answers no segments but labels (Panoptic-DeepLab): its own in the map."""


@dataclass(frozen=True, repr=False)
class PanopticSeg:
    """Things and stuff in one map."""

    labels: Int32
    """(H, W) ids of segments; 0 belongs to none."""
    segments: tuple[Segment, ...]
    """By id."""

    def __repr__(self) -> str:
        return f"PanopticSeg({len(self.segments)} segments, labels {self.labels.shape})"


@dataclass(frozen=True, repr=False)
class Outputs:
    """What DefaultPredictor's dict holds for one image; what the model has not is None."""

    height: int
    """Of the image as it was sent, in pixels."""
    width: int
    instances: Detections | None
    sem_seg: Int32 | None
    """(H, W) the label of highest logit at each pixel."""
    panoptic_seg: PanopticSeg | None
    proposals: Proposals | None
    extra: Extras = field(default_factory=dict)
    """The keys of the model's own."""

    def __repr__(self) -> str:
        """What is there, and of arrays their shapes."""
        found = (self.instances, self.panoptic_seg, self.proposals)
        said = [repr(each) for each in found if each is not None]
        if self.sem_seg is not None:
            said.append(f"sem_seg {self.sem_seg.shape}")
        size = f"{self.height} x {self.width} pixels"
        return f"Outputs({', '.join([size, *said, *_said_of(self.extra)])})"


def _said_of(extra: Extras) -> list[str]:
    return [f"{name} {values.shape}" for name, values in extra.items()]
