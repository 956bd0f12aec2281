"""Why: the only judge of an exported program is detectron2 itself, eager, on the same pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances
from pycocotools import mask as coco_mask

from d2serve.export.samples import Pixels
from d2serve.handlers.detections import Detections
from d2serve.handlers.rle import Rle


class Oracle:
    """Answers of eager detectron2: DefaultPredictor's for one image, its model's for a batch."""

    def __init__(self, cfg: CfgNode) -> None:
        self._predictor = DefaultPredictor(cfg)

    def predict(self, image: Pixels) -> Instances:
        """DefaultPredictor's own Instances for an RGB image."""
        return self._predictor(image[:, :, ::-1])["instances"].to("cpu")

    def answer(self, image: Pixels) -> Detections:
        """DefaultPredictor's answer for an RGB image."""
        return as_detections(self.predict(image))

    def answer_batch(self, images: Sequence[Pixels]) -> list[Detections]:
        """What the eager model answers to RGB images given to it as one batch.

        Prepares each image as DefaultPredictor.__call__ does.
        """
        inputs = [self.model_input(image) for image in images]
        with torch.no_grad():
            outputs = self._predictor.model(inputs)
        return [as_detections(output["instances"].to("cpu")) for output in outputs]

    def model_input(self, image: Pixels) -> dict[str, torch.Tensor | int]:
        """The dict that DefaultPredictor gives to the model for an RGB image."""
        pixels = image if self._predictor.input_format == "RGB" else image[:, :, ::-1]
        resized = self._predictor.aug.get_transform(pixels).apply_image(pixels)
        tensor = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        return {"image": tensor, "height": image.shape[0], "width": image.shape[1]}


def as_detections(instances: Instances) -> Detections:
    """detectron2's postprocessed Instances as the record that the handler produces."""
    height, width = instances.image_size
    keypoints = instances.pred_keypoints.numpy() if instances.has("pred_keypoints") else None
    masks = _encode(instances.pred_masks.numpy()) if instances.has("pred_masks") else None
    return Detections(
        height=height,
        width=width,
        boxes=instances.pred_boxes.tensor.numpy(),
        scores=instances.scores.numpy(),
        classes=instances.pred_classes.numpy(),
        masks=masks,
        keypoints=keypoints,
    )


def _encode(masks: np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]) -> tuple[Rle, ...]:
    encoded = (coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks)
    return tuple(
        {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}
        for rle in encoded
    )
