"""Why: the reply is built once, as bytes, in the project's response format, version 1.

TorchServe would otherwise serialise it again, with indentation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from d2serve.handlers.errors import ReplyTooLarge, RequestError
from d2serve.handlers.outputs.records import (
    Detections,
    Int32,
    Outputs,
    PanopticSeg,
    Proposals,
    Segment,
)
from d2serve.handlers.replies.label_maps import areas_of, to_png, to_rles
from d2serve.handlers.replies.polygons import to_polygons
from d2serve.handlers.requests.options import DEFAULT_OPTIONS, POLYGON, RLE, RequestOptions
from d2serve.handlers.spec.limits import RequestLimits
from d2serve.handlers.spec.model_spec import XYXY_ABS, ModelSpec

CONTENT_TYPE = "application/json"


def encode(
    outputs: Outputs,
    spec: ModelSpec,
    model: str,
    version: str,
    options: RequestOptions = DEFAULT_OPTIONS,
    request_id: str | None = None,
) -> bytes:
    """The reply for one image.

    Args:
        outputs: what was found; what is None has no field in the reply.
        spec: the model's; it has the class names, and the limit of a reply.
        model, version: under which the model is registered.
        options: of the request.
        request_id: the server's, where it gives its requests one.

    Raises:
        ReplyTooLarge: the reply is larger than the server can send.
    """
    fields: dict[str, Any] = {
        "model": model,
        "version": version,
        **_identified(request_id),
        "image": {"height": outputs.height, "width": outputs.width},
    }
    found = outputs.instances
    if found is not None:
        fields["instances"] = [_instance(found, i, spec, options) for i in range(len(found))]
    if outputs.proposals is not None:
        fields["proposals"] = _proposals(outputs.proposals)
    if outputs.sem_seg is not None:
        fields["sem_seg"] = sem_seg_field(outputs.sem_seg, spec.stuff_class_names, options)
    if outputs.panoptic_seg is not None:
        fields["panoptic_seg"] = panoptic_seg_field(outputs.panoptic_seg, spec)
    reply = orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)
    lists = [name for name in ("instances", "proposals") if fields.get(name)]
    what = " and ".join(f"{len(fields[name])} {name}" for name in lists) or "a label map"
    check_reply(reply, what, spec.limits)
    return reply


def check_reply(reply: bytes, what: str, limits: RequestLimits) -> None:
    """Refuse a reply for its size: the server would kill the worker that answers it.

    Args:
        what: it is for, in words.

    Raises:
        ReplyTooLarge: it has more bytes than the limit.
    """
    if len(reply) > limits.max_reply_bytes:
        raise ReplyTooLarge(
            f"The answer has {len(reply):,} bytes for {what}, expected at most "
            f"{limits.max_reply_bytes:,}. Send a smaller image, or ask for less: a higher "
            "score_thresh, fewer max_detections, masks=none."
        )


def _instance(
    detections: Detections, i: int, spec: ModelSpec, options: RequestOptions
) -> dict[str, Any]:
    category = int(detections.classes[i])
    instance: dict[str, Any] = {
        "bbox": np.ascontiguousarray(detections.boxes[i]),
        "bbox_mode": spec.box_mode,
        "score": detections.scores[i],
        "category_id": category,
    }
    if spec.class_names is not None:
        instance["category_name"] = spec.class_names[category]
    if detections.masks is not None:
        mask = detections.masks[i]
        instance["segmentation"] = to_polygons(mask) if options.masks == POLYGON else mask
    if detections.keypoints is not None:
        instance["keypoints"] = np.ascontiguousarray(detections.keypoints[i])
    return instance


def _proposals(proposals: Proposals) -> list[dict[str, Any]]:
    return [
        {"bbox": box, "bbox_mode": XYXY_ABS, "objectness_logit": logit}
        for box, logit in zip(
            np.ascontiguousarray(proposals.boxes), np.ascontiguousarray(proposals.objectness_logits)
        )
    ]


def sem_seg_field(
    labels: Int32, names: tuple[str, ...] | None, options: RequestOptions
) -> dict[str, Any]:
    """The reply's ``sem_seg``."""
    present, areas = (each.tolist() for each in areas_of(labels))
    classes = [
        {"category_id": label, **_named(names, label), "area": area}
        for label, area in zip(present, areas)
    ]
    if options.sem_seg != RLE:
        return {"size": labels.shape, "png": to_png(labels), "classes": classes}
    for each, rle in zip(classes, to_rles(labels)):
        each["segmentation"] = rle
    return {"size": labels.shape, "classes": classes}


def panoptic_seg_field(panoptic: PanopticSeg, spec: ModelSpec) -> dict[str, Any]:
    """The reply's ``panoptic_seg``."""
    return {
        "size": panoptic.labels.shape,
        "png": to_png(panoptic.labels),
        "segments_info": [_segment(segment, spec) for segment in panoptic.segments],
    }


def _segment(segment: Segment, spec: ModelSpec) -> dict[str, Any]:
    names = spec.class_names if segment.isthing else spec.stuff_class_names
    info: dict[str, Any] = {
        "id": segment.id,
        "category_id": segment.category_id,
        **_named(names, segment.category_id),
        "isthing": segment.isthing,
        "area": segment.area,
    }
    if segment.isthing:
        info["score"] = np.float32(segment.score)
        if segment.instance_id is not None:  # its instance is in the reply
            info["instance_id"] = segment.instance_id
    return info


def _named(names: tuple[str, ...] | None, category: int) -> dict[str, str]:
    return {} if names is None else {"category_name": names[category]}


def encode_error(error: RequestError, request_id: str | None = None) -> bytes:
    """The reply for a request that cannot be answered.

    It begins with the error: over gRPC, where there is no status, that is how one is told.
    """
    told = {"code": error.code, "message": str(error)}
    return orjson.dumps({"error": told, **_identified(request_id)})


def _identified(request_id: str | None) -> dict[str, str]:
    return {} if request_id is None else {"request_id": request_id}
