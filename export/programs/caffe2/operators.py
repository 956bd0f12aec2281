"""Caffe2's detection operators, as torch operators that a trace records and nothing computes.

A trace of a model in Caffe2's form holds them beside torch's own operators, and conversion.py
writes each of them down under its name. What a program answers is not needed for that, so each
gives zeros of a plausible shape, which are never empty. Their arguments after the tensors are
Caffe2's (caffe2/operators/*.cc); ``scope`` alone is ours: what the operator is part of, for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

NAMESPACE = "d2serve_caffe2"
SCOPE = "scope"

_SCHEMAS = (
    "GenerateProposals(Tensor scores, Tensor bbox_deltas, Tensor im_info, Tensor anchors, *, "
    "float spatial_scale, int pre_nms_topN, int post_nms_topN, float nms_thresh, float min_size, "
    "bool angle_bound_on, int angle_bound_lo, int angle_bound_hi, float clip_angle_thresh, "
    "bool legacy_plus_one, str scope) -> (Tensor rois, Tensor rois_probs)",
    "CollectRpnProposals(Tensor[] inputs, *, int rpn_max_level, int rpn_min_level, "
    "int rpn_post_nms_topN, str scope) -> Tensor rois",
    "DistributeFpnProposals(Tensor rois, *, int roi_canonical_scale, int roi_canonical_level, "
    "int roi_max_level, int roi_min_level, bool legacy_plus_one, str scope) -> Tensor[]",
    "RoIAlign(Tensor features, Tensor rois, *, str order, float spatial_scale, int pooled_h, "
    "int pooled_w, int sampling_ratio, bool aligned, str scope) -> Tensor",
    "BatchPermutation(Tensor x, Tensor indices, *, str scope) -> Tensor",
    "BBoxTransform(Tensor rois, Tensor deltas, Tensor im_info, *, float[] weights, "
    "bool apply_scale, bool rotated, bool angle_bound_on, int angle_bound_lo, int angle_bound_hi, "
    "float clip_angle_thresh, bool legacy_plus_one, str scope) -> (Tensor boxes, Tensor splits)",
    "BoxWithNMSLimit(Tensor scores, Tensor boxes, Tensor batch_splits, *, float score_thresh, "
    "float nms, int detections_per_im, bool soft_nms_enabled, str soft_nms_method, "
    "float soft_nms_sigma, float soft_nms_min_score_thres, bool rotated, "
    "bool cls_agnostic_bbox_reg, bool input_boxes_include_bg_cls, "
    "bool output_classes_include_bg_cls, bool legacy_plus_one, str scope) -> (Tensor scores, "
    "Tensor boxes, Tensor classes, Tensor batch_splits, Tensor keeps, Tensor keeps_size)",
)

_UPRIGHT: Mapping[str, object] = MappingProxyType(
    {
        "angle_bound_on": True,
        "angle_bound_lo": -180,
        "angle_bound_hi": 180,
        "clip_angle_thresh": 1.0,
        "legacy_plus_one": False,
    }
)
_FIXED: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "GenerateProposals": _UPRIGHT,
        "DistributeFpnProposals": {"legacy_plus_one": False},
        "RoIAlign": {"order": "NCHW"},
        "BBoxTransform": {**_UPRIGHT, "apply_scale": True, "rotated": False},
        "BoxWithNMSLimit": {
            "soft_nms_enabled": False,
            "soft_nms_method": "linear",
            "soft_nms_sigma": 0.5,
            "soft_nms_min_score_thres": 0.001,
            "rotated": False,
            "input_boxes_include_bg_cls": False,
            "output_classes_include_bg_cls": False,
            "legacy_plus_one": False,
        },
    }
)
"""Arguments that are the same in every model, as upstream's tracer writes them."""


def caffe2(name: str, *tensors: Any, scope: str, **arguments: Any) -> Any:
    """Record one of Caffe2's operators.

    Args:
        name: Caffe2's.
        tensors: what it takes.
        scope: what it is part of, as a path in the model.
        arguments: Caffe2's, but for those that are the same in every model.

    Returns:
        A tensor, a tuple or a list of tensors, in Caffe2's order; all are zeros.
    """
    operator = getattr(getattr(torch.ops, NAMESPACE), name)
    return operator(*tensors, **_FIXED.get(name, {}), **arguments, scope=scope)


def _generated(scores: Tensor, *_others: Tensor, **_arguments: object) -> tuple[Tensor, Tensor]:
    return scores.new_zeros(1, 5), scores.new_zeros(1)


def _collected(inputs: list[Tensor], **_arguments: object) -> Tensor:
    return torch.zeros_like(inputs[0])


def _distributed(
    rois: Tensor, *, roi_max_level: int, roi_min_level: int, **_arguments: object
) -> list[Tensor]:
    levels = roi_max_level - roi_min_level + 1
    restored = torch.zeros(len(rois), dtype=torch.int32, device=rois.device)
    return [*(torch.zeros_like(rois) for _level in range(levels)), restored]


def _pooled(
    features: Tensor, rois: Tensor, *, pooled_h: int, pooled_w: int, **_arguments: object
) -> Tensor:
    return features.new_zeros(rois.shape[0], features.shape[1], pooled_h, pooled_w)


def _permuted(x: Tensor, indices: Tensor, **_arguments: object) -> Tensor:
    return torch.zeros_like(x[: indices.shape[0]])


def _moved(
    _rois: Tensor, deltas: Tensor, im_info: Tensor, **_arguments: object
) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(deltas), im_info.new_zeros(1)


def _selected(scores: Tensor, *_others: Tensor, **_arguments: object) -> tuple[Tensor, ...]:
    one = scores.new_zeros(1)
    return one, scores.new_zeros(1, 4), *(one.clone() for _other in range(4))


_SHAPES: Mapping[str, Callable[..., object]] = MappingProxyType(
    {
        "GenerateProposals": _generated,
        "CollectRpnProposals": _collected,
        "DistributeFpnProposals": _distributed,
        "RoIAlign": _pooled,
        "BatchPermutation": _permuted,
        "BBoxTransform": _moved,
        "BoxWithNMSLimit": _selected,
    }
)

_LIBRARY: Any = torch.library.Library(NAMESPACE, "DEF")  # type: ignore[no-untyped-call]
for _schema in _SCHEMAS:
    _name = _schema.partition("(")[0]
    _LIBRARY.define(_schema)
    _LIBRARY.impl(_name, _SHAPES[_name], "CompositeExplicitAutograd")
