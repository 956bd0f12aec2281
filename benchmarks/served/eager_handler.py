"""The baseline: a TorchServe handler around eager detectron2, as people write it today.

It follows the public ones: load the config and the weights into a ``DefaultPredictor``, decode the
body with Pillow, predict, and turn the ``Instances`` into JSON the way detectron2's own evaluator
does (``instances_to_coco_json``: pycocotools encodes each pasted mask). It answers the same fields
as a d2serve archive, so that both sides do the same work and the answers can be compared. Nothing
in it is slowed down: no second decode, no dense masks in the JSON, the reply goes out as bytes.

TorchServe imports it by itself from the archive, so it imports nothing of this repository.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances
from PIL import Image
from pycocotools import mask as coco_mask


class EagerDetectronHandler:
    """Answers each image of a batch with DefaultPredictor, one after the other."""

    def initialize(self, context: Any) -> None:
        """Build the model from the config.yaml and model.pth of the archive."""
        self.predictor = load_predictor(Path(context.system_properties["model_dir"]))
        self.class_names = self.predictor.metadata.get("thing_classes")
        self.model = context.model_name
        self.version = str(context.manifest["model"]["modelVersion"])

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """One JSON reply for each request."""
        replies = []
        for index, request in enumerate(data):
            image = decode_bgr(request.get("data") or request.get("body") or b"")
            instances = self.predictor(image)["instances"].to("cpu")
            reply = describe(instances, encode_masks(instances), self.class_names)
            reply.update(model=self.model, version=self.version)
            context.set_response_content_type(index, "application/json")
            replies.append(json.dumps(reply).encode())
        return replies


def load_predictor(folder: Path) -> DefaultPredictor:
    """A DefaultPredictor from a folder with config.yaml and model.pth."""
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yaml"))
    cfg.MODEL.WEIGHTS = str(folder / "model.pth")
    return DefaultPredictor(cfg)


def decode_bgr(data: bytes) -> npt.NDArray[np.uint8]:
    """An image file as DefaultPredictor takes it: (H, W, 3) uint8, BGR."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[:, :, ::-1]


def encode_masks(instances: Instances) -> list[dict[str, Any]]:
    """The pasted masks as COCO RLE, as detectron2's COCOEvaluator encodes them."""
    encoded = []
    for mask in instances.pred_masks.numpy():
        rle = coco_mask.encode(np.array(mask[:, :, None], order="F", dtype="uint8"))[0]
        encoded.append({"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")})
    return encoded


def describe(
    instances: Instances, masks: list[dict[str, Any]], class_names: Sequence[str] | None
) -> dict[str, Any]:
    """The reply's fields, but for the name and version of the model."""
    height, width = instances.image_size
    fields = zip(
        instances.pred_boxes.tensor.tolist(),
        instances.scores.tolist(),
        instances.pred_classes.tolist(),
        masks,
    )
    found = []
    for box, score, category, mask in fields:
        instance = {"bbox": box, "bbox_mode": "XYXY_ABS", "score": score, "category_id": category}
        if class_names:
            instance["category_name"] = class_names[category]
        found.append({**instance, "segmentation": mask})
    return {"image": {"height": height, "width": width}, "instances": found}
