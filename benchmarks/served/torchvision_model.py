"""torchvision's model of TorchServe's example, with weights from a seed like ours.

Its heads are scaled on the picture as detectron2's are (model.py). Its class scores are spread
wider, since the example answers only what scores 0.5 or more.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.transforms.functional import to_tensor

from benchmarks.served.model import HeadTarget, scaled_heads

SETTINGS_FILE = "settings.json"

_TARGETS = (
    HeadTarget("rpn.head.cls_logits", 0.0, 2.0),
    HeadTarget("rpn.head.bbox_pred", 0.0, 0.15),
    HeadTarget("roi_heads.box_predictor.cls_score", 0.0, 8.0),
    HeadTarget("roi_heads.box_predictor.bbox_pred", 0.0, 0.8),
    HeadTarget("roi_heads.mask_predictor.mask_fcn_logits", 4.5, 3.0),
)


def save_torchvision_model(
    folder: Path,
    picture: npt.NDArray[np.uint8],
    edges: tuple[int, int],
    detections: int,
    seed: int,
) -> tuple[Path, Path]:
    """Write random weights that detect something.

    Args:
        folder: where the files go.
        picture: (H, W, 3) uint8 in RGB order, on which the heads are scaled.
        edges: short and longest edge of the model's input.
        detections: the most that it answers.
        seed: of the weights.

    Returns:
        The weights, and the settings of the model as JSON.
    """
    settings = {
        "min_size": edges[0],
        "max_size": edges[1],
        "box_detections_per_img": detections,
    }
    torch.manual_seed(seed)
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, **settings).eval()
    with torch.inference_mode(), scaled_heads(model, _TARGETS):
        model([to_tensor(picture)])
    weights, settings_file = folder / "model.pth", folder / SETTINGS_FILE
    torch.save(model.state_dict(), weights)
    settings_file.write_text(json.dumps(settings), encoding="utf-8")
    return weights, settings_file
