"""``Caffe2Model`` is called as a detectron2 model is, and answers what the tools of that read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.structures import Boxes, Instances
from detectron2.utils.visualizer import Visualizer

from d2serve.handlers.caffe2 import Caffe2Model
from d2serve.handlers.errors import InvalidImage, LoadError
from d2serve.handlers.netdef.detection import DetectionNetwork
from tests.handlers.netdef.nets import mask_rcnn, panoptic, retinanet, write


def image(height: int = 40, width: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), generator=generator).to(torch.uint8)


def detectron2s(folder: Path, given: dict[str, Any]) -> Any:
    """The same network's answer, with detectron2's own postprocessing."""
    pixels = given["image"].to(torch.float32)
    raw = DetectionNetwork.load(folder).answer(pixels)
    order = raw["scores"].argsort(descending=True, stable=True)
    found = Instances((pixels.shape[1], pixels.shape[2]))
    for name, value in raw.items():
        if name != "sem_seg":
            own = value[order].clone()
            found.set(name, Boxes(own) if name == "pred_boxes" else own)
    size = given.get("height", pixels.shape[1]), given.get("width", pixels.shape[2])
    return detector_postprocess(found, *size), raw, size


SIZES: list[dict[str, int]] = [{}, {"height": 40, "width": 50}, {"height": 111, "width": 73}]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("nets", [mask_rcnn, retinanet])
def test_instances_are_detectron2s(nets: Any, size: dict[str, int], tmp_path: Path) -> None:
    model = Caffe2Model.load_protobuf(write(tmp_path, nets()))
    given: dict[str, Any] = {"image": image(), **size}
    (answer,) = model([given])
    expected, _, wanted = detectron2s(tmp_path, given)
    found = answer["instances"]
    assert set(answer) == {"instances"}
    assert found.image_size == wanted
    assert set(found.get_fields()) == set(expected.get_fields())
    assert len(found) == len(expected) > 0
    for name, value in expected.get_fields().items():
        ours = found.get(name)
        if name == "pred_boxes":
            value, ours = value.tensor, ours.tensor
        assert ours.dtype == value.dtype
        assert torch.equal(ours, value), name


@pytest.mark.parametrize("size", SIZES)
def test_panoptic_maps_are_detectron2s(size: dict[str, int], tmp_path: Path) -> None:
    model = Caffe2Model.load_protobuf(write(tmp_path, panoptic()))
    given: dict[str, Any] = {"image": image(), **size}
    (answer,) = model([given])
    expected, raw, wanted = detectron2s(tmp_path, given)
    logits = sem_seg_postprocess(raw["sem_seg"], given["image"].shape[1:], *wanted)
    assert torch.equal(answer["sem_seg"], logits)
    labels, segments = combine_semantic_and_instance_outputs(
        expected, logits.argmax(0), 0.5, 16, 0.6
    )
    assert torch.equal(answer["panoptic_seg"][0], labels)
    assert answer["panoptic_seg"][1] == segments
    assert {each["isthing"] for each in segments} == {True, False}


def test_images_of_several_sizes(tmp_path: Path) -> None:
    model = Caffe2Model.load_protobuf(write(tmp_path, retinanet()))
    given = [{"image": image(*size)} for size in ((40, 50), (64, 33), (17, 90))]
    together = model(given)
    assert len(together) == 3
    for each, answer in zip(given, together):
        (alone,) = model([each])
        boxes = (one["instances"].pred_boxes.tensor for one in (answer, alone))
        assert torch.equal(*boxes)
    assert model([]) == []


def test_detectron2s_tools_read_the_answer(tmp_path: Path) -> None:
    (answer,) = Caffe2Model.load_protobuf(write(tmp_path, mask_rcnn()))([{"image": image()}])
    found = answer["instances"].to("cpu")
    rows = instances_to_coco_json(found, 7)
    assert [row["category_id"] for row in rows] == [0, 1]
    assert all(row["segmentation"]["size"] == [40, 50] for row in rows)
    pixels = image().permute(1, 2, 0).numpy()
    drawn = Visualizer(pixels).draw_instance_predictions(found).get_image()
    assert (drawn != pixels).any()


def test_instances_are_chosen_as_in_detectron2(tmp_path: Path) -> None:
    (answer,) = Caffe2Model.load_protobuf(write(tmp_path, mask_rcnn()))([{"image": image()}])
    found = answer["instances"]
    assert found.has("pred_masks")
    assert not found.has("pred_keypoints")
    best = found[found.scores > 0.6]
    assert len(best) == len(best.pred_boxes) == len(best.pred_masks) == 1
    assert found[1].scores.tolist() == found[-1].scores.tolist() == [0.5]
    assert len(found[5:]) == 0
    assert found.pred_boxes.area().shape == (2,)
    assert found.pred_boxes.get_centers().shape == (2, 2)
    assert [len(box) for box in found.pred_boxes] == [4, 4]
    np.testing.assert_array_equal(np.asarray(found.pred_boxes), found.pred_boxes.tensor)
    assert "pred_classes" in repr(found)
    with pytest.raises(AttributeError, match="have no field 'pred_keypoints'"):
        _ = found.pred_keypoints


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, '"image" is of NoneType, expected a tensor'),
        ({"image": np.zeros((3, 4, 4))}, "is of ndarray"),
        ({"image": torch.zeros(4, 4, 3)}, r"shape \[4, 4, 3\], expected a tensor \(3, height"),
        ({"image": torch.zeros(1, 3, 4, 4)}, r"shape \[1, 3, 4, 4\]"),
    ],
)
def test_another_image_is_refused(given: dict[str, Any], reason: str, tmp_path: Path) -> None:
    model = Caffe2Model.load_protobuf(write(tmp_path, mask_rcnn()))
    with pytest.raises(InvalidImage, match=reason):
        model([given])


def test_a_folder_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"model\.pb cannot be read \(No such file"):
        Caffe2Model.load_protobuf(tmp_path)
