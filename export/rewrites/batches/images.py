"""A batch as one: detectron2's lists of images become lists of one that spans all of them.

A list of images has a length that a trace makes a constant. So here ``ImageList.image_sizes`` is a
list of one tensor, (images, 2), the proposals and instances of all images are one ``Instances``,
and its boxes know whose they are. What detectron2 does to each instance then runs as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.layers import move_device_like
from detectron2.modeling import GeneralizedRCNN, SemanticSegmentor
from detectron2.modeling.meta_arch import ProposalNetwork
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, ImageList
from torch import Tensor

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import ONNX_BATCHES, Rewrite
from d2serve.handlers.spec.program_inputs import BATCH_INPUTS

IMAGES, SIZES = BATCH_INPUTS


class BoxesOfImages(Boxes):  # type: ignore[misc]  # detectron2 says nothing of types
    """(N, 4) boxes of a batch, and whose each is."""

    def __init__(self, tensor: Tensor, images: Tensor) -> None:
        """
        Args:
            images: (N,) the index of the image in which a box lies.
        """
        super().__init__(tensor)
        self.images = images


def edges_of(sizes: Tensor) -> Tensor:
    """(images, 4) the largest x0, y0, x1 and y1 of a box, of sizes (images, 2), height and width.

    ``Boxes.clip`` has them from a tuple.
    """
    return sizes.flip(1).repeat(1, 2).to(torch.float32)


def clipped(boxes: Tensor, edges: Tensor) -> Tensor:
    """Boxes (..., 4) as ``Boxes.clip`` leaves them, by edges of the same number of axes."""
    return torch.minimum(boxes.clamp(min=0), edges)


def prepared(model: Any, inputs: Sequence[dict[str, Tensor]]) -> ImageList:
    """What ``preprocess_image`` of detectron2 gives for the images of a batch.

    Args:
        model: with a ``pixel_mean``, a ``pixel_std`` and a ``backbone``.
        inputs: one dict: images (images, channels, H, W) with anything beyond an image's size, and
            sizes (images, 2).
    """
    (given,) = inputs
    images = move_device_like(given[IMAGES], model.pixel_mean)
    sizes = move_device_like(given[SIZES], model.pixel_mean)
    images = (images - model.pixel_mean) / model.pixel_std
    rows, columns = torch.arange(images.shape[2]), torch.arange(images.shape[3])
    in_height = rows.to(sizes) < sizes[:, 0, None]
    in_width = columns.to(sizes) < sizes[:, 1, None]
    inside = in_height[:, None, :, None] & in_width[:, None, None, :]
    # detectron2 pads with 0 after it has taken the mean.
    images = torch.where(inside, images, torch.zeros_like(images[:1, :1, :1, :1]))
    padded = ImageList.from_tensors(
        [images],
        model.backbone.size_divisibility,
        padding_constraints=model.backbone.padding_constraints,
    )
    return ImageList(padded.tensor[0], [sizes])


class _Preprocessing:
    def preprocess_image(self, inputs: Sequence[dict[str, Tensor]]) -> ImageList:
        return prepared(self, inputs)


class _Prepared:
    def prepared(self, inputs: Sequence[dict[str, Tensor]]) -> ImageList:
        return prepared(self, inputs)


_REASON = "structures/image_list.py: a trace has as many images as it was given, each by itself"

IMAGE_BATCHES = tuple(
    Rewrite(
        name="image_batches",
        replaces=kind,
        methods=("preprocess_image",),
        needed_for=frozenset({ONNX_BATCHES}),
        reason=_REASON,
        make=override_methods(_Preprocessing),
    )
    for kind in (GeneralizedRCNN, DenseDetector)
) + tuple(
    Rewrite(
        name="image_batches",
        replaces=kind,
        methods=(),  # their ending prepares
        needed_for=frozenset({ONNX_BATCHES}),
        reason=_REASON,
        make=override_methods(_Prepared),
    )
    for kind in (SemanticSegmentor, ProposalNetwork)
)
