"""The pictures of the example models: all their weights, the parts that one looks for, readable."""

from __future__ import annotations

import time

import pytest

from d2serve.export.picture.from_model import from_model
from d2serve.export.picture.network import FUNCTION, Network
from d2serve.export.picture.svg import svg_of
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.samples import builtin_sample
from tests.conftest import source_of
from tests.export.picture.geometry import require_readable
from tests.ways import IN_THE_GATE

_RESNET = ("stem", "res2", "res3", "res4", "res5")
_RPN = ("anchor_generator", "rpn_head", "proposals")
_BOXES = ("box_pooler", "box_head", "box_predictor", "detections")
_MASKS = ("mask_pooler", "mask_head")
PARTS = {
    "mask_rcnn_fpn": (*_RESNET, "fpn", *_RPN, *_BOXES, *_MASKS),
    "cascade_mask_rcnn_fpn": (*_RESNET, "fpn", *_RPN, *_BOXES, *_MASKS),
    "panoptic_fpn": (*_RESNET, "fpn", "sem_seg_head", *_RPN, *_BOXES, *_MASKS),
    "retinanet": (*_RESNET, "fpn", "cls_subnet", "bbox_subnet", "anchor_generator"),
    "vitdet": ("patch_embed", "blocks.0", "blocks.5", "fpn", *_RPN, *_BOXES, *_MASKS),
    "swin_mask_rcnn": ("patch_embed", "layers.0", "layers.3", "fpn", *_RPN, *_BOXES, *_MASKS),
    "point_rend": (*_RESNET, "fpn", *_RPN, *_BOXES, "mask_head"),
    "panoptic_deeplab": (*_RESNET, "sem_seg_head.decoder", "center_head", "offset_head"),
    "faster_rcnn_c4": (*_RPN, "pooler", "res5", "box_predictor", "detections"),
    "mask_queries": (*_RESNET, "fpn", "predictor"),
    "keypoint_rcnn_fpn": ("keypoint_pooler", "keypoint_head"),
    "mvitv2_cascade": ("patch_embed", "blocks 0–1", "blocks 6–7", "fpn"),
    "regnet_mask_rcnn": ("stem", "s1", "s4", "fpn"),
    "fcos": ("fpn", "cls_subnet", "ctrness"),
    "deeplab_v3plus": ("backbone.res5", "decoder.res5", "decoder.res2", "predictor"),
}
# Of one structure each.
_SOON = (
    *("mask_rcnn_fpn", "cascade_mask_rcnn_fpn", "panoptic_fpn", "retinanet", "vitdet"),
    *("swin_mask_rcnn", "point_rend", "panoptic_deeplab", "faster_rcnn_c4", "mask_queries"),
)


def _network(model: str) -> tuple[Network, Oracle]:
    oracle = Oracle(load_config(source_of(model)))
    given = oracle.model_input(builtin_sample(oracle.form))
    return from_model(oracle.model, given, model, "an example model"), oracle


@pytest.mark.parametrize(
    "model",
    [
        model if model in _SOON else pytest.param(model, marks=pytest.mark.long)
        for model in (*IN_THE_GATE, "mask_queries", "peaks")
    ],
)
def test_a_picture_has_all_weights_and_the_parts_that_one_looks_for(model: str) -> None:
    network, oracle = _network(model)
    parameters = sum(each.numel() for each in oracle.model.parameters())
    assert sum(block.weights for block in network.blocks) == parameters
    names = [block.name for block in network.blocks]
    assert not set(PARTS.get(model, ())) - set(names), names
    assert names[0] == "input"
    assert names[1] == "preprocessing"
    assert names[-1] == "output"
    assert not any(block.is_idle for block in network.blocks)
    require_readable(network)
    began = time.perf_counter()
    svg_of(network)
    assert time.perf_counter() - began < 1

    targets = {edge.target for edge in network.edges}
    without = {block.name for place, block in enumerate(network.blocks) if place not in targets}
    # Anchors are made of sizes, which are numbers of Python's.
    assert without <= {"input", "anchor_generator", "locations"}
    for block in network.blocks:
        assert block.multiply_adds is not None
        assert not (block.role == FUNCTION and block.weights)


def test_sides_that_depend_on_the_image_are_marked() -> None:
    network, _oracle = _network("mask_rcnn_fpn")
    blocks = {block.name: place for place, block in enumerate(network.blocks)}
    shapes = {(edge.source, edge.target): edge.shapes for edge in network.edges}
    ((one, channels, height, width),) = shapes[blocks["res2"], blocks["res3"]]
    assert (one.size, one.varies, channels.size, channels.varies) == (1, False, 64, False)
    assert height.varies
    assert width.varies
    ((instances, classes, *_mask),) = shapes[blocks["mask_head"], blocks["postprocessing"]]
    assert instances.varies
    assert not classes.varies
    heads = network.blocks[blocks["mask_head"]]
    assert heads.rows == instances.size
    assert heads.rows is not None
    assert heads.multiply_adds is not None
    assert heads.row_multiply_adds == heads.multiply_adds // heads.rows
    assert sum(edge.goes_back for edge in network.edges) == 0


def test_the_stages_of_a_cascade_go_back() -> None:
    network, _oracle = _network("cascade_mask_rcnn_fpn")
    (back,) = [edge for edge in network.edges if edge.goes_back]
    ends = network.blocks[back.source].name, network.blocks[back.target].name
    assert ends == ("detections", "box_pooler")
