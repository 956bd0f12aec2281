"""Replies as a server would give them, made by hand of arrays."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from d2serve.client.results.prediction import Prediction, parse_prediction

Labels = NDArray[np.integer[Any]]


def reply(height: int, width: int, **fields: Any) -> dict[str, Any]:
    """A reply for an image of this size with these of ``instances``, ``sem_seg`` and so on."""
    size = {"height": height, "width": width}
    return {"model": "m", "version": "1", "image": size, **fields}


def prediction(height: int, width: int, **fields: Any) -> Prediction:
    return parse_prediction(reply(height, width, **fields))


def png(pixels: NDArray[Any]) -> str:
    """Base64 of a PNG of these pixels, 8 or 16 bits by their type."""
    encoded = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(encoded, "PNG")
    return base64.b64encode(encoded.getvalue()).decode("ascii")


def packed(labels: Labels) -> str:
    """As ``png``, of 8 bits where they suffice."""
    return png(labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16))


def rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def sem_seg(labels: Labels, *, as_rle: bool = False) -> dict[str, Any]:
    classes: list[dict[str, Any]] = [
        {
            "category_id": label,
            "category_name": f"name {label}",
            "area": int((labels == label).sum()),
        }
        for label in np.unique(labels).tolist()
    ]
    if not as_rle:
        return {"size": list(labels.shape), "png": packed(labels), "classes": classes}
    for each in classes:
        each["segmentation"] = rle(labels == each["category_id"])
    return {"size": list(labels.shape), "classes": classes}


def thing(ids: Labels, number: int, **fields: Any) -> dict[str, Any]:
    """The entry of a thing whose instance is that before its id."""
    about = {"id": number, "category_id": 0, "isthing": True, "area": int((ids == number).sum())}
    return {**about, "score": 0.9, "instance_id": number - 1, **fields}


def stuff(ids: Labels, number: int, category: int, **fields: Any) -> dict[str, Any]:
    area = int((ids == number).sum())
    return {"id": number, "category_id": category, "isthing": False, "area": area, **fields}


def panoptic_seg(ids: Labels, *segments: dict[str, Any]) -> dict[str, Any]:
    return {"size": list(ids.shape), "png": packed(ids), "segments_info": list(segments)}


def instance(category: int, *bbox: float, **fields: Any) -> dict[str, Any]:
    """Of four numbers an upright box, of five a rotated one."""
    mode = "XYXY_ABS" if len(bbox) == 4 else "XYWHA_ABS"
    about = {"bbox": list(bbox), "bbox_mode": mode, "score": 0.9, "category_id": category}
    return {**about, **fields}


def proposal(logit: float, *bbox: float) -> dict[str, Any]:
    return {"bbox": list(bbox), "bbox_mode": "XYXY_ABS", "objectness_logit": logit}
