"""Small networks of Caffe2, whose right answers are known by heart, as files.

The Mask R-CNN answers two instances whatever the image is; its masks are of the size that the
test gives. The RetinaNet has one level.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d2serve.handlers.netdef.files import NET_FILE, WEIGHTS_FILE
from d2serve.handlers.netdef.messages import NetDef, OperatorDef, argument, encode

MEAN = (103.0, 116.0, 123.0)
BOXES = ((2.0, 1.0, 12.0, 9.0), (4.0, 4.0, 20.0, 30.0))
SCORES = (0.5, 0.75)
CLASSES = (1.0, 0.0)
STUFF = 2
"""The label of the one kind of stuff, of three."""


def operator(type_: str, inputs: Sequence[str], outputs: Sequence[str], **args: Any) -> OperatorDef:
    made = tuple(argument(name, value) for name, value in args.items())
    return OperatorDef(type_, tuple(inputs), tuple(outputs), made)


def fill(name: str, values: Any) -> OperatorDef:
    array = np.asarray(values, np.float32)
    return operator("GivenTensorFill", [], [name], shape=list(array.shape), values=array)


def mask_rcnn(**args: Any) -> tuple[NetDef, NetDef]:
    """Two instances, and their masks in two classes; class 1 has its left half set."""
    masks = np.zeros((2, 2, 8, 8), np.float32)
    masks[:, 1, :, :4] = 1
    masks[:, 0] = 1
    fills = {
        "mean": np.reshape(MEAN, (3, 1, 1)),
        "std": np.ones((3, 1, 1)),
        "box_weights": BOXES,
        "score_weights": SCORES,
        "class_weights": CLASSES,
        "mask_weights": masks,
    }
    net = NetDef(
        "net",
        (
            operator("Sub", ["data", "mean"], ["1"]),
            operator("Div", ["1", "std"], ["normalized"]),
            operator("Relu", ["normalized"], ["seen"]),
            operator("Copy", ["box_weights"], ["bbox_nms"]),
            operator("Copy", ["score_weights"], ["score_nms"]),
            operator("Copy", ["class_weights"], ["class_nms"]),
            operator("Copy", ["mask_weights"], ["mask_fcn_probs"]),
        ),
        tuple(
            argument(name, value)
            for name, value in {
                "size_divisibility": 32,
                "device": "cpu",
                "meta_architecture": "GeneralizedRCNN",
                **args,
            }.items()
        ),
        ("data", "im_info", *fills),
        ("bbox_nms", "score_nms", "class_nms", "mask_fcn_probs"),
    )
    made = NetDef("init", tuple(fill(name, values) for name, values in fills.items()))
    return net, made


def saved_generator(strides: Sequence[int] = (16,), legacy: bool = False) -> bytes:
    """As upstream's tracer keeps it."""
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

    sizes = [[stride * 2.0, stride * 3.0] for stride in strides]
    made = DefaultAnchorGenerator(sizes=sizes, aspect_ratios=[[0.5, 2.0]], strides=list(strides))
    stream = io.BytesIO()
    torch.save(made, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def retinanet(generator: bytes | None = None) -> tuple[NetDef, NetDef]:
    """One level of four anchors and three classes, which are two convolutions of the image."""
    generator = saved_generator() if generator is None else generator
    rng = np.random.default_rng(0)
    fills = {
        "mean": np.reshape(MEAN, (3, 1, 1)),
        "cls_weights": rng.normal(0, 0.002, (12, 3, 16, 16)),
        "delta_weights": rng.normal(0, 0.0002, (16, 3, 16, 16)),
    }
    args: dict[str, Any] = {
        "size_divisibility": 16,
        "meta_architecture": "RetinaNet",
        "score_threshold": 0.3,
        "topk_candidates": 50,
        "nms_threshold": 0.6,
        "max_detections_per_image": 20,
        "bbox_reg_weights": [1.0, 1.0, 2.0, 2.0],
        "serialized_anchor_generator": generator,
    }
    net = NetDef(
        "net",
        (
            operator("Sub", ["data", "mean"], ["x"]),
            operator("Conv", ["x", "cls_weights"], ["box_cls_0"], kernel=16, stride=16),
            operator("Conv", ["x", "delta_weights"], ["box_delta_0"], kernel=16, stride=16),
        ),
        tuple(argument(name, value) for name, value in args.items()),
        ("data", "im_info", *fills),
        ("im_info", "box_cls_0", "box_delta_0"),
    )
    return net, NetDef("init", tuple(fill(name, values) for name, values in fills.items()))


def panoptic() -> tuple[NetDef, NetDef]:
    """The Mask R-CNN, and logits of which one kind of stuff is the highest everywhere."""
    net, fills = mask_rcnn(
        combine_overlap_threshold=0.5,
        combine_stuff_area_limit=16,
        combine_instances_confidence_threshold=0.6,
    )
    weights = np.zeros((3, 3, 4, 4))
    more = {"stuff_weights": weights, "stuff_bias": np.eye(3)[STUFF]}
    args = tuple(each for each in net.arg if each.name != "meta_architecture")
    return (
        NetDef(
            net.name,
            (*net.op, operator("Conv", ["seen", *more], ["sem_seg"], kernel=4, stride=4)),
            (*args, argument("meta_architecture", "PanopticFPN")),
            (*net.external_input, *more),
            (*net.external_output, "sem_seg"),
        ),
        NetDef(fills.name, (*fills.op, *(fill(name, values) for name, values in more.items()))),
    )


def write(folder: Path, nets: tuple[NetDef, NetDef]) -> Path:
    """The two files, in a folder."""
    for name, net in zip((NET_FILE, WEIGHTS_FILE), nets):
        (folder / name).write_bytes(encode(net))
    return folder
