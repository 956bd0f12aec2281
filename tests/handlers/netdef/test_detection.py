"""A network gets its image as detectron2 gives it, and its answer is read as detectron2 does."""

from __future__ import annotations

import functools
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import meta_arch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import ImageList

from d2serve.handlers.errors import LoadError, ModelFailed
from d2serve.handlers.netdef.detection import DetectionNetwork
from d2serve.handlers.netdef.messages import NetDef, argument
from d2serve.handlers.netdef.network import Network
from d2serve.handlers.spec.model_spec import PanopticMerge
from tests.handlers.netdef.nets import (
    BOXES,
    CLASSES,
    MEAN,
    SCORES,
    mask_rcnn,
    operator,
    panoptic,
    retinanet,
    saved_generator,
    write,
)


def detector(nets: tuple[NetDef, NetDef]) -> DetectionNetwork:
    return DetectionNetwork(Network(*nets))


def picture(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (3, height, width), generator=generator).to(torch.float32)


def test_outputs_have_our_names() -> None:
    made = detector(mask_rcnn())
    assert made.outputs == ("pred_boxes", "scores", "pred_classes", "pred_masks")
    answer = made.answer(picture(32, 64))
    assert set(answer) == set(made.outputs)
    assert answer["pred_boxes"].tolist() == [list(each) for each in BOXES]
    assert answer["scores"].tolist() == list(SCORES)
    assert answer["pred_classes"].dtype == torch.int64
    # Each mask is that of its class.
    assert answer["pred_masks"].shape == (2, 1, 8, 8)
    assert answer["pred_masks"].sum((1, 2, 3)).tolist() == [32.0 if c else 64.0 for c in CLASSES]


def test_masks_of_no_class() -> None:
    net, fills = mask_rcnn()
    (one,) = (each for each in fills.op if each.output == ("mask_weights",))
    values = one.arg[1].floats.reshape(2, 2, 64)[:, 1].ravel()
    only = operator("GivenTensorFill", [], one.output, shape=[2, 1, 8, 8], values=values)
    kept = tuple(only if each is one else each for each in fills.op)
    answer = detector((net, NetDef(op=kept))).answer(picture(32, 32))
    assert answer["pred_masks"].sum((1, 2, 3)).tolist() == [32.0, 32.0]


@pytest.mark.parametrize(("height", "width"), [(32, 64), (33, 20), (1, 1)])
def test_what_is_padded_becomes_zero(height: int, width: int) -> None:
    """As where detectron2 pads after it has subtracted the mean."""
    net, fills = mask_rcnn()
    made = detector((NetDef(net.name, net.op, net.arg, net.external_input, SEEN), fills))
    seen: list[torch.Tensor] = []
    whole = made.network.run
    made.network.run = lambda inputs: seen.extend(inputs) or whole(inputs)  # type: ignore[method-assign, func-returns-value]
    image = picture(height, width)
    made.answer(image)
    expected = ImageList.from_tensors([image - torch.tensor(MEAN)[:, None, None]], 32).tensor
    data, im_info = seen
    got = whole([data, im_info])["normalized"]
    assert torch.equal(got, expected)
    assert im_info.tolist() == [[height, width, 1.0]]


SEEN = ("normalized", "bbox_nms", "score_nms", "class_nms", "mask_fcn_probs")


def oracle(image: torch.Tensor, blobs: dict[str, torch.Tensor]) -> Any:
    """What upstream's wrapper does with a RetinaNet's maps: it asks detectron2's own methods."""
    self = types.SimpleNamespace(
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[32.0, 48.0]], aspect_ratios=[[0.5, 2.0]], strides=[16]
        ),
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 2.0, 2.0)),
        test_score_thresh=0.3,
        test_topk_candidates=50,
        test_nms_thresh=0.6,
        max_detections_per_image=20,
        num_classes=3,
    )
    for name in (
        *("forward_inference", "inference_single_image", "_transpose_dense_predictions"),
        *("_decode_multi_level_predictions", "_decode_per_level_predictions"),
    ):
        setattr(self, name, functools.partial(getattr(meta_arch.RetinaNet, name), self))
    maps = [blobs["box_cls_0"].clone()], [blobs["box_delta_0"]]
    sizes = [(image.shape[1], image.shape[2])]
    images = ImageList(image[None], sizes)
    (found,) = self.forward_inference(images, [maps[0][0][:, :0]], maps)
    return found


@pytest.mark.parametrize("legacy", [False, True])
def test_a_retinanet_is_read_as_detectron2_reads_it(legacy: bool) -> None:
    made = detector(retinanet(saved_generator((16,), legacy)))
    most = 0
    for height, width in ((64, 96), (80, 48), (128, 128)):
        image = picture(height, width)
        blobs = made.network.run([image[None], torch.ones(1, 3)])
        expected = oracle(image, blobs)
        answer = made.answer(image)
        most = max(most, len(expected))
        assert len(expected) > 5
        assert torch.allclose(answer["pred_boxes"], expected.pred_boxes.tensor, atol=1e-4)
        assert torch.equal(answer["scores"], expected.scores)
        assert torch.equal(answer["pred_classes"], expected.pred_classes)
    assert most == 20


def test_a_panoptic_fpn_says_how_it_is_merged() -> None:
    made = detector(panoptic())
    assert made.panoptic == PanopticMerge(0.5, 16, 0.6)  # not 0.60000002
    assert made.outputs[-1] == "sem_seg"
    assert made.answer(picture(32, 64))["sem_seg"].shape == (3, 8, 16)


def without(net: NetDef, name: str) -> NetDef:
    kept = tuple(each for each in net.arg if each.name != name)
    return NetDef(net.name, net.op, kept, net.external_input, net.external_output)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (mask_rcnn(meta_architecture="YOLO")[0], "meta_architecture is 'YOLO', expected one of"),
        (mask_rcnn(meta_architecture="PanopticFPN")[0], "a PanopticFPN should answer 'sem_seg'"),
        (mask_rcnn(meta_architecture="RetinaNet")[0], "bbox_reg_weights are"),
        (mask_rcnn(size_divisibility=0.5)[0], "size_divisibility is not a whole number"),
    ],
)
def test_another_network_is_refused(net: NetDef, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        detector((net, mask_rcnn()[1]))


@pytest.mark.parametrize("name", ["topk_candidates", "serialized_anchor_generator"])
def test_a_retinanet_without_a_setting_is_refused(name: str) -> None:
    net, fills = retinanet()
    with pytest.raises(LoadError, match=f"the argument {name} is not"):
        detector((without(net, name), fills))


def test_a_network_without_a_mean_is_refused() -> None:
    net, fills = mask_rcnn()
    net = NetDef(
        net.name,
        (operator("Copy", ["data"], ["1"]), *net.op[1:]),
        net.arg,
        net.external_input,
        net.external_output,
    )
    with pytest.raises(LoadError, match="does not begin by subtracting a mean from 'data'"):
        detector((net, fills))


def test_outputs_that_do_not_fit_together_are_named() -> None:
    """A class that has no mask; and padding that no memory holds."""
    net, fills = mask_rcnn()
    (one,) = (each for each in fills.op if each.output == ("class_weights",))
    beyond = operator("GivenTensorFill", [], one.output, shape=[2], values=[7.0, 0.0])
    kept = tuple(beyond if each is one else each for each in fills.op)
    with pytest.raises(ModelFailed, match=r"do not fit together .*out of bounds"):
        detector((net, NetDef(op=kept))).answer(picture(32, 32))
    with pytest.raises(ModelFailed, match="do not fit together"):
        detector(mask_rcnn(size_divisibility=2**40)).answer(picture(32, 32))


def test_it_is_loaded_from_a_folder(tmp_path: Path) -> None:
    made = DetectionNetwork.load(write(tmp_path, mask_rcnn()))
    assert made.size_divisibility == 32
    assert made.network.arguments.text("device") == "cpu"
    assert made.pixel_mean.ravel().tolist() == list(MEAN)


def test_arguments_of_one_name() -> None:
    """The first counts, as in Caffe2."""
    net, fills = mask_rcnn()
    twice = (*net.arg, argument("size_divisibility", 64))
    made = NetDef(net.name, net.op, twice, net.external_input, net.external_output)
    assert detector((made, fills)).size_divisibility == 32
