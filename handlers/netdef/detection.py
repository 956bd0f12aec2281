"""A detectron2 model in Caffe2's files: an image in, the program's outputs by our names out.

Upstream's wrapper (detectron2/export/caffe2_inference.py) pads images with black before the
network subtracts the mean, and tells the network how the image was resized, by which that clips
boxes. Both change the answer. detectron2 itself pads after the mean is subtracted and clips to the
image it has. So does this: it pads with the mean, which becomes zero, and gives the scale 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from d2serve.handlers.errors import LoadError, ModelFailed
from d2serve.handlers.netdef.arguments import ArgumentError
from d2serve.handlers.netdef.files import NET_FILE, read_nets
from d2serve.handlers.netdef.network import OBJECTIONS, Network
from d2serve.handlers.netdef.retinanet import RetinaNetEnd, as_written
from d2serve.handlers.spec.model_spec import PanopticMerge
from d2serve.handlers.spec.output_names import (
    BOXES,
    CLASSES,
    HEATMAPS,
    KEYPOINTS,
    MASKS,
    SCORES,
    SEM_SEG,
)

RCNN, PANOPTIC, RETINANET = "GeneralizedRCNN", "PanopticFPN", "RetinaNet"
SEMANTIC = "SemanticSegmentor"
"""Which upstream's tracer did not have."""
META_ARCHITECTURES = (RCNN, PANOPTIC, RETINANET, SEMANTIC)

# What upstream calls outputs, and what they are.
_BOXES, _SCORES, _CLASSES = "bbox_nms", "score_nms", "class_nms"
_MASKS, _KEYPOINTS, _HEATMAPS, _SEM_SEG = "mask_fcn_probs", "keypoints_out", "kps_score", "sem_seg"
_OPTIONAL = {_MASKS: MASKS, _KEYPOINTS: KEYPOINTS, _HEATMAPS: HEATMAPS, _SEM_SEG: SEM_SEG}


class DetectionNetwork:
    """A network with what detectron2 does around it; any number of threads may ask it."""

    def __init__(self, network: Network) -> None:
        """
        Raises:
            LoadError: it is not one that detectron2's tracer writes.
        """
        self.network = network
        try:
            self.meta_architecture = network.arguments.text("meta_architecture", RCNN)
            self.size_divisibility = network.arguments.integer("size_divisibility", 0)
            self._end = self._read_end()
            self.panoptic = self._read_panoptic()
        except ArgumentError as error:
            raise LoadError(f"{NET_FILE} cannot be run: {error}. Export the model again.") from None
        self.pixel_mean = self._read_mean()

    @classmethod
    def load(cls, folder: Path) -> DetectionNetwork:
        """Read ``model.pb`` and ``model_init.pb`` of a folder.

        Raises:
            LoadError: they are missing, damaged, or cannot be run; the message says why.
        """
        return cls(Network(*read_nets(folder)))

    def answer(self, image: Tensor) -> dict[str, Tensor]:
        """The outputs for one image, in its own pixels, by the names of ``RawOutputs``.

        Args:
            image: (channels, height, width) float32, in the model's channel order, 0 to 255.

        Raises:
            ModelFailed: the network cannot take it.
        """
        height, width = image.shape[1:]
        im_info = image.new_tensor([[height, width, 1.0]])
        try:
            with torch.inference_mode():
                blobs = self.network.run([self._padded(image), im_info])
                return _named(blobs) if self._end is None else self._end.read(blobs)
        except OBJECTIONS as error:
            raise ModelFailed(
                f"The network's outputs do not fit together ({' '.join(str(error).split())[:200]})."
            ) from error

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what ``answer`` gives."""
        there = (ours for theirs, ours in _OPTIONAL.items() if theirs in self.network.outputs)
        instances = (BOXES, SCORES, CLASSES) if self.meta_architecture != SEMANTIC else ()
        return (*instances, *there)

    def _padded(self, image: Tensor) -> Tensor:
        unit = max(self.size_divisibility, 1)
        height, width = (-(-side // unit) * unit for side in image.shape[1:])
        if (height, width) == tuple(image.shape[1:]):
            return image[None]
        padded = self.pixel_mean.expand(-1, height, width).clone()
        padded[:, : image.shape[1], : image.shape[2]] = image
        return padded[None]

    def _read_end(self) -> RetinaNetEnd | None:
        if self.meta_architecture not in META_ARCHITECTURES:
            raise ArgumentError(
                f"meta_architecture is {self.meta_architecture!r}, expected one of "
                f"{', '.join(META_ARCHITECTURES)}"
            )
        end = (
            RetinaNetEnd.of(self.network.arguments) if self.meta_architecture == RETINANET else None
        )
        levels = 0 if end is None else len(end.anchors.cells)
        wanted = {
            RCNN: (_BOXES, _SCORES, _CLASSES),
            PANOPTIC: (_BOXES, _SCORES, _CLASSES, _MASKS, _SEM_SEG),
            RETINANET: [f"box_{kind}_{i}" for kind in ("cls", "delta") for i in range(levels)],
            SEMANTIC: (_SEM_SEG,),
        }[self.meta_architecture]
        missing = [name for name in wanted if name not in self.network.outputs]
        if missing:
            raise ArgumentError(f"a {self.meta_architecture} should answer {missing[0]!r}")
        return end

    def _read_panoptic(self) -> PanopticMerge | None:
        """Overlap, area of stuff and score by which a Panoptic FPN's outputs are merged."""
        args = self.network.arguments
        if self.meta_architecture != PANOPTIC:
            return None
        return PanopticMerge(
            as_written(args.number("combine_overlap_threshold")),
            int(args.number("combine_stuff_area_limit")),
            as_written(args.number("combine_instances_confidence_threshold")),
        )

    def _read_mean(self) -> Tensor:
        inputs = self.network.inputs
        if len(inputs) != 2:
            raise LoadError(
                f"{NET_FILE} takes {', '.join(inputs) or 'nothing'} beside its weights, expected "
                "an image and its size (data, im_info). Are the two files of one export?"
            )
        mean = self.network.constant_beside("Sub", inputs[0])
        if mean is None:
            raise LoadError(
                f"{NET_FILE} does not begin by subtracting a mean from {inputs[0]!r}, as every "
                "network of detectron2's tracer does, so images cannot be padded for it."
            )
        return mean.reshape(-1, 1, 1)


def _named(blobs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {ours: blobs[theirs] for theirs, ours in _OPTIONAL.items() if theirs in blobs}
    if _BOXES in blobs:
        classes = blobs[_CLASSES].to(torch.int64)
        found |= {BOXES: blobs[_BOXES], SCORES: blobs[_SCORES], CLASSES: classes}
    if MASKS in found:
        found[MASKS] = _of_class(found[MASKS], found[CLASSES])
    if KEYPOINTS in found:  # (N, 4, K) x, y, score, probability
        found[KEYPOINTS] = found[KEYPOINTS][:, :3].transpose(1, 2)
    if SEM_SEG in found:
        found[SEM_SEG] = found[SEM_SEG][0]
    return found


def _of_class(masks: Tensor, classes: Tensor) -> Tensor:
    """(N, 1, M, M) the masks of the classes that were predicted."""
    if masks.shape[1] == 1:
        return masks
    return masks[torch.arange(len(classes), device=classes.device), classes][:, None]
