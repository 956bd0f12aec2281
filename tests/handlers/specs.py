"""Specs that hypothesis makes up, of every family."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st

from d2serve.handlers.spec.limits import RequestLimits
from d2serve.handlers.spec.model_spec import ModelSpec, PanopticMerge
from d2serve.handlers.spec.provenance import Provenance
from d2serve.handlers.spec.runtimes import METHODS, RUNTIMES, precisions

OUTPUTS = ("pred_boxes", "pred_classes", "scores")
texts = st.text(max_size=20)
numbers = st.floats(0, 1)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
merges = st.builds(
    PanopticMerge,
    overlap_thresh=numbers,
    stuff_area_limit=st.integers(0, 10**6),
    instances_confidence_thresh=numbers,
)
MERGE = PanopticMerge(0.5, 4096, 0.5)
WITH_SEM_SEG = (*OUTPUTS, "pred_masks", "sem_seg")
PROPOSALS = ("proposal_boxes", "objectness_logits")

classes_in_detail = st.none() | st.integers(1, 100)

families = st.one_of(
    st.fixed_dictionaries(
        {
            "outputs": st.sampled_from(
                [(*OUTPUTS, "pred_masks"), (*OUTPUTS, "pred_keypoint_heatmaps")]
            ).flatmap(st.permutations),
            "detail_classes": classes_in_detail,
        }
    ),
    st.fixed_dictionaries(
        {
            "outputs": st.sampled_from(
                [
                    OUTPUTS,
                    (*OUTPUTS, "pred_masks"),
                    (*OUTPUTS, "pred_keypoints"),
                    (*OUTPUTS, "pred_masks", "pred_keypoint_heatmaps"),
                    PROPOSALS,
                    ("sem_seg",),
                ]
            ).flatmap(st.permutations),
            "box_mode": st.just("XYXY_ABS"),
            "panoptic": st.none(),
        }
    ),
    st.fixed_dictionaries(
        {
            "outputs": st.permutations(WITH_SEM_SEG),
            "box_mode": st.just("XYXY_ABS"),
            "panoptic": merges,
        }
    ),
    st.fixed_dictionaries(
        {
            "outputs": st.permutations(OUTPUTS),
            "box_mode": st.just("XYWHA_ABS"),
            "panoptic": st.none(),
        }
    ),
)


forms = st.one_of(
    st.sampled_from([("BGR", 3), ("RGB", 3), ("L", 1), ("RGBA", 4)]),
    st.tuples(st.just("bands"), st.integers(1, 64)),
)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    family: dict[str, Any] = draw(families)
    family["outputs"] = tuple(family["outputs"])
    image_format, channels = draw(forms)
    family |= {"image_format": image_format, "channels": channels}
    return dataclasses.replace(draw(_specs), **family)


_specs = st.builds(
    ModelSpec,
    name=texts,
    family=texts,
    method=st.sampled_from(METHODS),
    runtime=st.sampled_from(list(RUNTIMES)),
    precision=st.sampled_from(precisions()),
    program=st.just("model.xml"),
    sha256=st.dictionaries(st.sampled_from(["model.bin", "a b.bin"]), hashes).map(
        lambda others: {"model.xml": "0" * 64, **others}
    ),
    image_format=st.just("BGR"),
    min_size_test=st.integers(0, 5000),
    max_size_test=st.integers(1, 5000),
    size_divisibility=st.integers(0, 64),
    outputs=st.just(OUTPUTS),
    box_mode=st.just("XYXY_ABS"),
    class_names=st.none() | st.lists(texts, max_size=4).map(tuple),
    stuff_class_names=st.none() | st.lists(texts, max_size=4).map(tuple),
    panoptic=st.none(),
    rewrites=st.lists(texts, max_size=3).map(tuple),
    score_thresh=st.none() | numbers,
    nms_thresh=st.none() | numbers,
    detections_per_image=st.none() | st.integers(-1, 1000),
    mask_threshold=st.floats(0, 1, exclude_min=True),
    dynamic_batch=st.booleans(),
    versions=st.dictionaries(texts, texts, max_size=3),
    verification=st.dictionaries(texts, json_values, max_size=3),
    accuracy=st.dictionaries(texts, json_values, max_size=3),
    provenance=st.none()
    | st.builds(Provenance, texts, texts, texts, texts, st.none() | texts, st.none() | texts),
    limits=st.builds(
        RequestLimits,
        max_image_bytes=st.integers(1, 2**31 - 1),
        max_decode_seconds=st.floats(0, 3600, exclude_min=True),
        max_detections=st.integers(1, 10**6),
    ),
)
