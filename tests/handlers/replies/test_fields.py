"""The table of a reply's fields is what the JSON, the protocol's answer and the clients have."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from d2serve.client.results.prediction import Instance, Prediction, Proposal
from d2serve.handlers.outputs.records import PanopticSeg, Proposals, Segment
from d2serve.handlers.outputs.rle import Rle
from d2serve.handlers.replies.encoding import encode
from d2serve.handlers.replies.fields import FIELDS, tensors_of
from d2serve.handlers.spec.extras import IMAGE, INSTANCE, Extra
from d2serve.handlers.spec.model_spec import PanopticMerge
from tests.handlers.answers import answer_with, found
from tests.handlers.samples import spec_with

INSTANCES = ("pred_boxes", "scores", "pred_classes")
NAMES = [field.name for field in FIELDS]
# What every reply says of itself.
ABOUT = {"model", "version"}
EXTRAS = (
    Extra("rank", INSTANCE, "Tensor", "int64", ()),
    Extra("image_score", IMAGE, "Tensor", "float32", ()),
)
EVERYTHING = spec_with(
    outputs=(
        *(*INSTANCES, "pred_masks", "pred_keypoints", "sem_seg"),
        *(each.output for each in EXTRAS),
    ),
    extras=EXTRAS,
    class_names=("thing",),
    panoptic=PanopticMerge(0.5, 1, 0.5),
)
PROPOSING = spec_with(outputs=("proposal_boxes", "objectness_logits"))


def names_in(reply: dict[str, Any]) -> list[str]:
    """The fields of a reply, in its order, as the table names them."""
    names: list[str] = []
    for name, value in reply.items():
        if name == "extra_fields":  # described in a place of its own
            names.append(name)
        elif isinstance(value, list):
            names += [f"{name}[].{inner}" for inner in value[0]]
        elif name not in ABOUT:
            names.append(name)
            names += ["image.converted"] if name == "image" and "converted" in value else []
    return names


def reply_of_everything() -> dict[str, Any]:
    labels = np.zeros((480, 640), np.int32)
    mask = Rle(size=[480, 640], counts="0")
    instances = found([[0, 0, 9, 9]], (mask,), np.ones((1, 2, 3), np.float32))
    answer = answer_with(
        replace(instances, extra={"rank": np.array([7])}),
        extra={"image_score": np.array(0.5, np.float32)},
        sem_seg=labels,
        panoptic_seg=PanopticSeg(labels, (Segment(1, 0, True, 5, 0.5, 0),)),
    )
    reply: dict[str, Any] = json.loads(encode(answer, EVERYTHING, "shapes", "1.0", converted="so"))
    return reply


def reply_of_proposals() -> dict[str, Any]:
    proposals = Proposals(np.ones((1, 4), np.float32), np.ones(1, np.float32))
    answer = answer_with(proposals=proposals)
    reply: dict[str, Any] = json.loads(encode(answer, PROPOSING, "shapes", "1.0", converted="so"))
    return reply


@pytest.mark.parametrize(
    ("reply", "spec"), [(reply_of_everything(), EVERYTHING), (reply_of_proposals(), PROPOSING)]
)
def test_a_json_reply_has_the_fields_of_the_table_in_its_order(reply: Any, spec: Any) -> None:
    assert names_in(reply) == [field.name for field in FIELDS if field.is_in(spec)]


def test_every_field_is_in_one_of_them() -> None:
    assert sorted({*names_in(reply_of_everything()), *names_in(reply_of_proposals())}) == sorted(
        NAMES
    )


def test_clients_have_an_attribute_for_each() -> None:
    of = {
        "instances": {field.name for field in fields(Instance)},
        "proposals": {field.name for field in fields(Proposal)},
    }
    own = {field.name for field in fields(Prediction)}
    for name in NAMES:
        outer, _, inner = name.partition("[].")
        if outer.startswith("image"):
            assert {"height", "width", "converted"} <= own
            continue
        assert outer in own, name
        assert not inner or inner in of[outer], name


def test_what_a_model_has() -> None:
    def names(**changes: Any) -> list[str]:
        return [each.name for each in FIELDS if each.is_in(spec_with(**changes))]

    image = ["image", "image.converted"]
    boxes = [f"instances[].{each}" for each in ("bbox", "bbox_mode", "score", "category_id")]
    assert names() == [*image, *boxes]
    assert names(outputs=("sem_seg",)) == [*image, "sem_seg"]
    heatmaps = names(outputs=(*INSTANCES, "pred_keypoint_heatmaps"))
    assert heatmaps == [*image, *boxes, "instances[].keypoints"]


def test_tensors_are_named_once() -> None:
    for spec in (EVERYTHING, PROPOSING):
        tensors = [each.name for each in tensors_of(spec)]
        assert len(set(tensors)) == len(tensors)
        assert tensors[-1] == "reply"
