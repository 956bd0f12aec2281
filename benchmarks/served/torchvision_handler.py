"""TorchServe's own example of a Mask R-CNN, to which its documentation sends people.

That example serves torchvision's ``maskrcnn_resnet50_fpn`` from its state dict with TorchServe's
built-in ``object_detector``: decode with Pillow, ``ToTensor``, one forward in which torchvision
resizes and pastes the masks, keep what scores 0.5 or more, and answer class names, boxes and
scores. **The masks are computed and thrown away**: the example has no way to answer them. This is
the same work, written anew, since the built-in handler needs captum to be imported at all.

TorchServe imports it by itself from the archive, so it imports nothing of this repository.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn
from torchvision.transforms.functional import to_tensor

_THRESHOLD = 0.5


class TorchvisionExampleHandler:
    """Answers batches of images of one size with boxes, as the example does."""

    def initialize(self, context: Any) -> None:
        """Build the model from the settings.json and model.pth of the archive."""
        folder = Path(context.system_properties["model_dir"])
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        self.model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, **settings)
        self.model.load_state_dict(torch.load(folder / "model.pth", map_location="cpu"))
        self.model.eval()
        # The names alone: no weights are fetched.
        self.class_names = MaskRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]

    def handle(self, data: Sequence[Mapping[str, Any]], _context: Any) -> list[list[Any]]:
        """One list of detections for each request; TorchServe makes JSON of it."""
        bodies = [request.get("data") or request.get("body") or b"" for request in data]
        images = torch.stack([to_tensor(Image.open(io.BytesIO(body))) for body in bodies])
        with torch.inference_mode():
            answers = self.model(images)
        return [self._describe(answer) for answer in answers]

    def _describe(self, answer: Mapping[str, torch.Tensor]) -> list[Any]:
        kept = answer["scores"] >= _THRESHOLD
        fields = zip(*(answer[name][kept].tolist() for name in ("boxes", "labels", "scores")))
        return [{self.class_names[label]: box, "score": score} for box, label, score in fields]
