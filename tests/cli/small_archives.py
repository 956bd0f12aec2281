"""Archives as `d2serve export` lays them out, with a few bytes for a program: enough for whatever
only reads what an archive says of itself."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.provenance import Provenance

PROGRAM = bytes(range(256)) * 64
_DIFFERENCES = {
    "image": "sample",
    "height": 480,
    "width": 640,
    "detections": 3,
    "box_px": 0.001,
    "score": 1e-6,
    "masks_differing": 0,
    "mask_iou": 1.0,
    "keypoint_px": 0.0,
    "labels_differing": 0,
    "segments_differing": 0,
}
_VERIFICATION = {
    "reference": "detectron2 0.6, eager",
    "differences": [_DIFFERENCES],
    "not_reached": ["one"],
    "traced_constants": ["mine.py:3"],
}


def small_spec(name: str = "shapes") -> ModelSpec:
    return ModelSpec(
        name=name,
        family="Faster R-CNN FPN",
        method="tracing",
        runtime="torchscript",
        precision="fp32",
        program="model.pt",
        sha256={"model.pt": hashlib.sha256(PROGRAM).hexdigest()},
        image_format="BGR",
        min_size_test=800,
        max_size_test=1333,
        size_divisibility=32,
        outputs=("pred_boxes", "scores", "pred_classes"),
        box_mode="XYXY_ABS",
        class_names=("circle", "square"),
        stuff_class_names=None,
        panoptic=None,
        rewrites=(),
        score_thresh=0.05,
        nms_thresh=0.5,
        detections_per_image=100,
        mask_threshold=0.5,
        dynamic_batch=False,
        versions={"torch": "2.14.1"},
        verification=_VERIFICATION,
        accuracy={},
        provenance=Provenance(
            *("config.yaml", "c" * 64, "model_final.pth", "d" * 64, "the metadata of my_train")
        ),
    )


def small_archive(file: Path, name: str = "shapes", version: str = "1.0") -> Path:
    """Write a .mar; returns its path."""
    manifest = {"model": {"modelName": name, "modelVersion": version, "handler": "h.py"}}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("model_spec.json", small_spec(name).to_json())
        archive.writestr("model.pt", PROGRAM)
        archive.writestr("h.py", "")
    return file
