"""Answers of Caffe2's files themselves, for an archive that is made of files that somebody has.

``Caffe2Model`` runs them as whoever still has them would. Where their config and weights are there,
eager detectron2 is asked as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from d2serve.export.errors import EagerError
from d2serve.export.proof.as_records import detections_of, panoptic_of
from d2serve.export.reading.image_files import Pixels
from d2serve.handlers.caffe2 import Caffe2Model
from d2serve.handlers.errors import RequestError
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.requests.preprocessing import resized_shape
from d2serve.handlers.requests.resizing import resized
from d2serve.handlers.spec.image_form import BGR


class Caffe2Reference:
    """Answers of ``Caffe2Model``, for one image at a time."""

    owner = "Caffe2Model"
    reference = "Caffe2Model with the same files, on the same images"

    def __init__(self, model: Caffe2Model, image_format: str, min_size: int, max_size: int) -> None:
        """
        Args:
            model: of the files.
            image_format: of the images that the model takes.
            min_size, max_size: of ResizeShortestEdge, in pixels.
        """
        self._model = model
        self._image_format = image_format
        self._sizes = min_size, max_size

    def answer(self, image: Pixels) -> Outputs:
        """See ``Reference.answer``."""
        height, width = image.shape[:2]
        pixels = resized(image, *resized_shape(height, width, *self._sizes))
        if self._image_format == BGR:
            pixels = pixels[:, :, ::-1]
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))
        try:
            (found,) = self._model([{"image": tensor, "height": height, "width": width}])
        except RequestError as error:
            raise EagerError(
                f"The files cannot be run on an image of {height}x{width}: {error}"
            ) from error
        return _outputs(found, height, width)

    def answer_batch(self, images: Sequence[Pixels]) -> list[Outputs]:
        """See ``Reference.answer_batch``; the network takes one image."""
        return [self.answer(image) for image in images]


def _outputs(found: dict[str, Any], height: int, width: int) -> Outputs:
    instances, sem_seg = found.get("instances"), found.get("sem_seg")
    panoptic = found.get("panoptic_seg")
    return Outputs(
        height,
        width,
        None if instances is None else detections_of(instances),
        None if sem_seg is None else sem_seg.argmax(dim=0).numpy().astype(np.int32),
        None if panoptic is None else panoptic_of(*panoptic),
        None,
    )
