"""Why: the reply is built once, as bytes, in the project's response format, version 1.

TorchServe would otherwise serialise it again, with indentation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from d2serve.handlers.detections import Detections
from d2serve.handlers.errors import ReplyTooLarge, RequestError
from d2serve.handlers.model_spec import ModelSpec

CONTENT_TYPE = "application/json"

# TorchServe's max_response_size: a worker that answers more is killed by the server.
MAX_REPLY_BYTES = 6_553_500


def encode(detections: Detections, spec: ModelSpec, model: str, version: str) -> bytes:
    """The reply for one image.

    Args:
        detections: what was found.
        spec: the model's; it has the class names.
        model, version: under which the model is registered.

    Raises:
        ReplyTooLarge: the reply is larger than TorchServe's default max_response_size.
    """
    reply = orjson.dumps(
        {
            "model": model,
            "version": version,
            "image": {"height": detections.height, "width": detections.width},
            "instances": [_instance(detections, i, spec) for i in range(len(detections))],
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    if len(reply) > MAX_REPLY_BYTES:
        raise ReplyTooLarge(
            f"The answer has {len(reply):,} bytes for {len(detections)} instances, expected at "
            f"most {MAX_REPLY_BYTES:,}. Send a smaller image, or export with a higher "
            "score threshold."
        )
    return reply


def _instance(detections: Detections, i: int, spec: ModelSpec) -> dict[str, Any]:
    category = int(detections.classes[i])
    instance: dict[str, Any] = {
        "bbox": np.ascontiguousarray(detections.boxes[i]),
        "bbox_mode": "XYXY_ABS",
        "score": detections.scores[i],
        "category_id": category,
    }
    if spec.class_names is not None:
        instance["category_name"] = spec.class_names[category]
    if detections.masks is not None:
        instance["segmentation"] = detections.masks[i]
    if detections.keypoints is not None:
        instance["keypoints"] = np.ascontiguousarray(detections.keypoints[i])
    return instance


def encode_error(error: RequestError) -> bytes:
    """The reply for a request that cannot be answered."""
    return orjson.dumps({"error": {"code": error.code, "message": str(error)}})
