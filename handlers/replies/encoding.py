"""Encodes a reply as JSON, in the project's response format, version 1.

It is built once, as bytes: a server that got objects would serialise them again in its own way.
The fields are those of ``replies/fields.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from d2serve.handlers.errors import RequestError
from d2serve.handlers.outputs.records import (
    Detections,
    Int32,
    Outputs,
    PanopticSeg,
    Proposals,
    Segment,
)
from d2serve.handlers.replies.extras import extra_fields, extra_of_image, extra_of_instance
from d2serve.handlers.replies.label_maps import areas_of, to_png, to_rles
from d2serve.handlers.replies.polygons import to_polygons
from d2serve.handlers.requests.options import DEFAULT_OPTIONS, POLYGON, RLE, RequestOptions
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.output_names import XYXY_ABS


def encode(
    outputs: Outputs,
    spec: ModelSpec,
    model: str,
    version: str,
    options: RequestOptions = DEFAULT_OPTIONS,
    request_id: str | None = None,
    converted: str | None = None,
) -> bytes:
    """The reply for one image.

    Args:
        outputs: what was found; what is None has no field in the reply.
        spec: the model's; it has the class names.
        model, version: under which the model is registered.
        options: of the request.
        request_id: the server's, where it gives its requests one.
        converted: what was done to the image's values, if anything.
    """
    image: dict[str, Any] = {"height": outputs.height, "width": outputs.width}
    if converted is not None:
        image["converted"] = converted
    fields: dict[str, Any] = {
        "model": model,
        "version": version,
        **_identified(request_id),
        "image": image,
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
    fields.update(extra_of_image(outputs.extra, options))
    fields.update(extra_fields(spec, options))
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)


def contents_of(outputs: Outputs) -> str:
    """What a reply holds, in words for a message about its size."""
    counted = (("instance", outputs.instances), ("proposal", outputs.proposals))
    lists = [f"{len(found)} {name}{'s' * (len(found) > 1)}" for name, found in counted if found]
    return " and ".join(lists) or "a label map"


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
    instance.update(extra_of_instance(detections.extra, i, options))
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
    if spec.postprocessed:  # what made the segments itself tells all classes apart in one list
        names = spec.stuff_class_names
    info: dict[str, Any] = {
        "id": segment.id,
        "category_id": segment.category_id,
        **_named(names, segment.category_id),
        "isthing": segment.isthing,
        "area": segment.area,
    }
    if segment.score is not None:
        info["score"] = np.float32(segment.score)
    if segment.instance_id is not None:  # its instance is in the reply
        info["instance_id"] = segment.instance_id
    if segment.label is not None:
        info["label"] = segment.label
    return info


def _named(names: tuple[str, ...] | None, category: int) -> dict[str, str]:
    return {} if names is None else {"category_name": names[category]}


def encode_error(error: RequestError, request_id: str | None = None) -> bytes:
    """The reply for a request that cannot be answered.

    It begins with the error: where there is no status, as over gRPC, that is how one is recognised.
    """
    content = {"code": error.code, "message": str(error)}
    return orjson.dumps({"error": content, **_identified(request_id)})


def _identified(request_id: str | None) -> dict[str, str]:
    return {} if request_id is None else {"request_id": request_id}
