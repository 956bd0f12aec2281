"""``Caffe2Model``: a network of Caffe2 that is called as the detectron2 model it was made from.

It takes the place of ``detectron2.export.Caffe2Model`` where neither Caffe2 nor detectron2 is
installed, and it answers what the model in PyTorch answers, which upstream's does not quite:
handlers/netdef/detection.py. It lies above the outputs, whose postprocessing it uses; what runs the
network, and serves it from an archive, is the floor below, handlers/netdef/.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from d2serve.handlers.caffe2.structures import Boxes, Instances
from d2serve.handlers.errors import InvalidImage
from d2serve.handlers.netdef.detection import DetectionNetwork
from d2serve.handlers.outputs.panoptic import merge
from d2serve.handlers.outputs.postprocessing import detections
from d2serve.handlers.outputs.records import Detections, PanopticSeg
from d2serve.handlers.outputs.rle import decode_mask
from d2serve.handlers.requests.preprocessing import ModelInput
from d2serve.handlers.spec.output_names import BOXES, SEM_SEG


class Caffe2Model:
    """A network of Caffe2 with the interface of a detectron2 model in PyTorch.

    ::

        model = Caffe2Model.load_protobuf("folder")
        (output,) = model([{"image": image, "height": 480, "width": 640}])
        output["instances"].pred_boxes.tensor
    """

    def __init__(self, network: DetectionNetwork) -> None:
        self._network = network

    @classmethod
    def load_protobuf(cls, directory: str | os.PathLike[str]) -> Caffe2Model:
        """Load ``model.pb`` and ``model_init.pb`` of a folder, of whichever tracer wrote them.

        Raises:
            LoadError: they are missing, damaged, or cannot be run; the message says why.
        """
        return cls(DetectionNetwork.load(Path(directory)))

    def __call__(self, inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answer images, each as if it were the only one.

        Args:
            inputs: for each image ``"image"``, (channels, H, W), 0 to 255 in the channel order of
                the model, already resized; and, where the answer is to be for another size,
                ``"height"`` and ``"width"`` of that, in pixels.

        Returns:
            For each image ``"instances"`` by falling score: ``pred_boxes``, ``scores``,
            ``pred_classes`` and, where the model has them, ``pred_masks`` (N, height, width) and
            ``pred_keypoints`` (N, K, 3); of a Panoptic FPN also ``"sem_seg"`` (C, height, width)
            and ``"panoptic_seg"``, a map and what its segments are. A SemanticSegmentor answers
            ``"sem_seg"`` alone.

        Raises:
            InvalidImage: an image is of another shape.
            ModelFailed: the network fails on an image.
        """
        return [self._answer(each) for each in inputs]

    def _answer(self, given: Mapping[str, Any]) -> dict[str, Any]:
        image = self._image(given)
        height, width = (int(given.get(side, own)) for side, own in zip(_SIDES, image.shape[1:]))
        raw = self._network.answer(image)
        arrays = {name: value.numpy() for name, value in raw.items()}
        answer: dict[str, Any] = {}
        if BOXES in raw:
            found = detections(arrays, ModelInput(image.numpy(), height, width))
            answer["instances"] = _instances(found)
        if SEM_SEG in raw:
            answer[SEM_SEG] = _enlarged(raw[SEM_SEG], image, height, width)
        thresholds = self._network.panoptic
        if thresholds is not None:
            labels = answer[SEM_SEG].argmax(0).to(torch.int32).numpy()
            answer["panoptic_seg"] = _panoptic(merge(found, labels, thresholds))
        return answer

    def _image(self, given: Mapping[str, Any]) -> Tensor:
        image = given.get("image")
        channels = len(self._network.pixel_mean)
        if not isinstance(image, Tensor) or image.dim() != 3 or len(image) != channels:
            got = f"shape {[*image.shape]}" if isinstance(image, Tensor) else type(image).__name__
            raise InvalidImage(
                f'"image" is of {got}, expected a tensor ({channels}, height, width) in the '
                "channel order that the model was trained with."
            )
        return image.detach().to("cpu", torch.float32).contiguous()


_SIDES = ("height", "width")


def _instances(found: Detections) -> Instances:
    fields: dict[str, Any] = {
        "pred_boxes": Boxes(torch.from_numpy(found.boxes)),
        "scores": torch.from_numpy(found.scores),
        "pred_classes": torch.from_numpy(found.classes),
    }
    if found.masks is not None:
        masks = np.zeros((len(found), found.height, found.width), np.bool_)
        for index, rle in enumerate(found.masks):
            reached, left = decode_mask(rle)
            masks[index][:, left : left + reached.shape[1]] = reached
        fields["pred_masks"] = torch.from_numpy(masks)
    if found.keypoints is not None:
        fields["pred_keypoints"] = torch.from_numpy(found.keypoints)
    return Instances((found.height, found.width), **fields)


def _enlarged(logits: Tensor, image: Tensor, height: int, width: int) -> Tensor:
    """``sem_seg_postprocess`` (detectron2/modeling/postprocessing.py)."""
    own = logits[None, :, : image.shape[1], : image.shape[2]]
    return F.interpolate(own, (height, width), mode="bilinear", align_corners=False)[0]


def _panoptic(found: PanopticSeg) -> tuple[Tensor, list[dict[str, Any]]]:
    segments: list[dict[str, Any]] = []
    for each in found.segments:
        segment = {"id": each.id, "isthing": each.isthing, "category_id": each.category_id}
        own = (
            {"score": each.score, "instance_id": each.instance_id}
            if each.isthing
            else {"area": each.area}
        )
        segments.append({**segment, **own})
    return torch.from_numpy(found.labels), segments
