"""What the tests of the handler library share: specs, images, and how many cases hypothesis tries.

The cases are the same on every run. D2SERVE_EXAMPLES=20000 tries that many, other ones each time.
"""

from __future__ import annotations

import dataclasses
import io
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data.detection_utils import read_image
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from d2serve.handlers.spec.model_spec import ModelSpec

_SPEC = ModelSpec(
    name="shapes",
    family="Mask R-CNN FPN",
    method="scripting",
    runtime="torchscript",
    precision="fp32",
    program="model.pt",
    sha256={"model.pt": "0" * 64},
    image_format="BGR",
    min_size_test=0,
    max_size_test=1333,
    size_divisibility=32,
    outputs=("pred_boxes", "scores", "pred_classes"),
    box_mode="XYXY_ABS",
    class_names=None,
    stuff_class_names=None,
    panoptic=None,
    rewrites=(),
    score_thresh=0.05,
    nms_thresh=0.5,
    detections_per_image=100,
    mask_threshold=0.5,
    dynamic_batch=True,
    versions={"torch": "2.14.1"},
    verification={},
    accuracy={},
)


def cases(count: int) -> settings:
    """Hypothesis settings for a test of ``count`` cases; use it as a decorator."""
    wanted = os.environ.get("D2SERVE_EXAMPLES")
    return settings(
        deadline=None,
        max_examples=int(wanted) if wanted else count,
        derandomize=wanted is None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


def spec_with(**changes: Any) -> ModelSpec:
    """A valid spec, but for ``changes``."""
    return dataclasses.replace(_SPEC, **changes)


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A picture with gradients and noise, so that no decoding step goes unseen."""
    down, along = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).integers(0, 64, (height, width, 4))
    ramps = np.stack([down * 5, along * 3, down + along, 255 - along * 2], axis=2)
    image = Image.fromarray(((ramps + noise) % 256).astype(np.uint8))
    if mode in ("I", "I;16", "F"):
        sixteen_bits = (np.asarray(image)[:, :, 0].astype(np.uint16) * 257) % 65521
        return Image.fromarray(sixteen_bits).convert(mode)
    return image.convert("RGB").convert(mode) if mode not in ("RGBA", "LA") else image.convert(mode)


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def detectron2_reads(data: bytes) -> NDArray[np.uint8]:
    """What detectron2 makes of an image file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return np.asarray(read_image(file.name, "RGB"))


def coco_rles(masks: NDArray[Any]) -> list[dict[str, Any]]:
    """pycocotools' encoding of (N, H, W) masks, as detectron2's evaluators ask for it."""
    rles = [coco_mask.encode(np.array(mask, order="F", dtype=np.uint8)) for mask in masks]
    return [{"size": rle["size"], "counts": rle["counts"].decode("ascii")} for rle in rles]


def bits(values: Sequence[float] | NDArray[Any]) -> list[int]:
    """Float32 values as their bits: equal only where the floats are identical."""
    flat: list[int] = (
        np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).ravel().tolist()
    )
    return flat
