"""A part of an image and of what was found in it, at another size: one way to draw large and small.

Lines and words are drawn after the part is enlarged, so a difference of half a pixel can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask

from d2serve.export.proof.differences.finding import Region
from d2serve.handlers.outputs.records import Detections, Outputs, PanopticSeg, Segment
from d2serve.handlers.outputs.rle import Rle

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
_LEAST_PIXELS = 8


@dataclass(frozen=True)
class Window:
    """A part of an image, and the size at which it is shown."""

    x: int
    y: int
    width: int
    """In pixels of the image, as x and y are."""
    height: int
    shown: tuple[int, int]
    """(width, height) of the picture."""

    @staticmethod
    def whole(width: int, height: int, across: int) -> Window:
        """All of an image, at a width."""
        return Window(0, 0, width, height, (across, max(1, round(height * across / width))))

    @staticmethod
    def around(region: Region, size: tuple[int, int], shown: tuple[int, int]) -> Window:
        """The least part of an image of ``size`` around a region that has the shape of a picture.

        Args:
            region: to be seen; a margin is added.
            size: (width, height) of the image.
            shown: (width, height) of the picture; of a smaller image it becomes smaller.
        """
        x0, y0, x1, y1 = region
        wide, tall = 1.3 * max(x1 - x0, _LEAST_PIXELS), 1.3 * max(y1 - y0, _LEAST_PIXELS)
        aspect = shown[0] / shown[1]
        wide, tall = max(wide, tall * aspect), max(tall, wide / aspect)
        width, height = min(round(wide), size[0]), min(round(tall), size[1])
        x = round(min(max((x0 + x1 - width) / 2, 0), size[0] - width))
        y = round(min(max((y0 + y1 - height) / 2, 0), size[1] - height))
        scale = min(shown[0] / width, shown[1] / height)
        across, down = (max(1, round(side * scale)) for side in (width, height))
        return Window(x, y, width, height, (across, down))

    @property
    def scale(self) -> float:
        """Pixels of the picture for a pixel of the image."""
        return self.shown[0] / self.width

    def pixels(self, image: Pixels) -> Pixels:
        """The part of an image, (H, W, 3)."""
        part = Image.fromarray(image[self.y : self.y + self.height, self.x : self.x + self.width])
        way = Image.Resampling.NEAREST if self.scale > 1 else Image.Resampling.LANCZOS
        return np.asarray(part.resize(self.shown, way))

    def sampled(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The part of a map (H, W): the value under the middle of each pixel of the picture."""
        return values[np.ix_(self._places(1), self._places(0))]

    def any_of(self, mask: Mask) -> Mask:
        """The part of a mask in which no set pixel is lost, however small it is shown."""
        y, x = np.nonzero(mask[self.y : self.y + self.height, self.x : self.x + self.width])
        if self.scale >= 1:
            return self.sampled(mask).astype(np.bool_)
        shown = np.zeros((self.shown[1], self.shown[0]), np.bool_)
        for down in (0, 1):  # two pixels wide, to be seen
            for along in (0, 1):
                rows = np.minimum((y * self.scale).astype(int) + down, self.shown[1] - 1)
                columns = np.minimum((x * self.scale).astype(int) + along, self.shown[0] - 1)
                shown[rows, columns] = True
        return shown

    def points(self, points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(..., 2) of x and y in pixels of the picture."""
        moved = (points - np.array([self.x, self.y], np.float32)) * self.scale
        return moved.astype(np.float32)

    def outputs(self, outputs: Outputs, kept: Sequence[int]) -> Outputs:
        """What was found, in pixels of the picture.

        Args:
            outputs: of the image.
            kept: indices of the instances to keep, with their segments.
        """
        sem_seg, panoptic, found = outputs.sem_seg, outputs.panoptic_seg, outputs.instances
        if sem_seg is not None:
            sem_seg = self.sampled(sem_seg).astype(np.int32)
        if panoptic is not None:
            labels = self.sampled(panoptic.labels).astype(np.int32)
            panoptic = PanopticSeg(labels, _segments_of(panoptic, kept))
            if not any(each.instance_id is not None for each in panoptic.segments):
                found = None  # stuff alone
        if found is not None:
            found = self._detections(found, kept)
        return replace(
            outputs,
            width=self.shown[0],
            height=self.shown[1],
            instances=found,
            sem_seg=sem_seg,
            panoptic_seg=panoptic,
            proposals=None,
            extra={},
        )

    def _detections(self, found: Detections, kept: Sequence[int]) -> Detections:
        index = list(kept)
        boxes = found.boxes[index].copy()
        boxes[:, :2] = self.points(boxes[:, :2])
        if boxes.shape[1] == 5:
            boxes[:, 2:4] *= self.scale
        else:
            boxes[:, 2:] = self.points(boxes[:, 2:])
        masks = keypoints = None
        if found.masks is not None:
            masks = tuple(self._mask(found.masks[i]) for i in index)
        if found.keypoints is not None:
            keypoints = found.keypoints[index].copy()
            keypoints[..., :2] = self.points(keypoints[..., :2])
        return Detections(
            self.shown[1],
            self.shown[0],
            boxes,
            found.scores[index],
            found.classes[index],
            masks,
            keypoints,
        )

    def _mask(self, rle: Rle) -> Rle:
        part = self.sampled(coco_mask.decode(rle)).astype(np.uint8)
        encoded = coco_mask.encode(np.asfortranarray(part))
        size = [int(each) for each in encoded["size"]]
        return {"size": size, "counts": encoded["counts"].decode("ascii")}

    def _places(self, axis: int) -> npt.NDArray[np.intp]:
        start, length = ((self.x, self.width), (self.y, self.height))[axis]
        shown = self.shown[axis]
        return start + ((np.arange(shown) + 0.5) * length / shown).astype(np.intp)


def _segments_of(panoptic: PanopticSeg, kept: Sequence[int]) -> tuple[Segment, ...]:
    """Stuff, and the things that are kept, under their new indices."""
    places: dict[int | None, int | None] = {None: None}
    places.update({old: new for new, old in enumerate(kept)})
    return tuple(
        replace(each, instance_id=places[each.instance_id])
        for each in panoptic.segments
        if each.instance_id in places
    )
