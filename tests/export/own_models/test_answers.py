"""What a model of a user's own class answers is found by running it, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.reading import weights
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import family_of
from d2serve.export.reading.family import Family
from d2serve.export.reading.own_models.answers import observed
from tests.conftest import source_of

INSTANCES = ("pred_boxes", "scores", "pred_classes")
SENT = (100, 120)

Answer = Callable[[Tensor, Any, Any], Any]


class Own(nn.Module):
    """Of a class that nobody knows; answers what a function makes of an image and its size."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.num_classes = 7
        self._answer = answer

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        return [self._answer(x["image"], x["height"], x["width"]) for x in batched_inputs]


def found(**fields: Any) -> Instances:
    """Two instances in an image of 50 x 60."""
    result = Instances((50, 60))
    result.pred_boxes = Boxes(torch.tensor([[1.0, 2.0, 30.0, 40.0], [5.0, 6.0, 50.0, 45.0]]))
    result.scores, result.pred_classes = torch.tensor([0.9, 0.8]), torch.tensor([1, 0])
    for name, value in fields.items():
        result.set(name, value)
    return result


def seen(model: nn.Module) -> Family:
    """The family of a model, after it has answered one image."""
    inputs = {"image": torch.rand(3, 50, 60), "height": SENT[0], "width": SENT[1]}
    return observed(family_of(model), model.eval(), inputs)


def test_an_answer_that_detectron2_postprocesses_ends_before_that() -> None:
    masks = torch.rand(2, 1, 14, 14)
    family = seen(
        Own(lambda _, h, w: {"instances": detector_postprocess(found(pred_masks=masks), h, w)})
    )
    assert family.outputs == (*INSTANCES, "pred_masks")
    assert (family.name, family.num_classes, family.is_own) == ("Own", 7, True)
    assert not family.postprocessed


@pytest.mark.parametrize(
    "answer",
    [
        lambda _, _h, _w: {"instances": found()},
        lambda _, h, w: {"instances": detector_postprocess(found(), h, w)[:1]},
        lambda _, h, w: {"instances": detector_postprocess(found(), h + 1, w)},
        lambda _, h, w: {
            "instances": detector_postprocess(found(pred_masks=torch.rand(2, 1, 9, 9)), h, w, 0.4)
        },
    ],
    ids=["without it", "chosen of", "to another size", "at another threshold"],
)
def test_any_other_ending_is_part_of_the_program(answer: Answer) -> None:
    assert seen(Own(answer)).postprocessed


def test_a_known_model_in_which_nothing_is_changed_is_no_own_one() -> None:
    class Renamed(GeneralizedRCNN):  # type: ignore[misc]
        pass

    model = weights.build_model(load_config(source_of("faster_rcnn_fpn")))
    model.__class__ = Renamed
    assert not family_of(model).is_own


class WrappedHeads(nn.Module):
    """Heads that extend none of detectron2's."""

    def __init__(self, cfg: Any, shape: Any) -> None:
        super().__init__()
        self.inner = StandardROIHeads(cfg, shape)
        self.num_classes = 3

    def forward(self, images: Any, features: Any, proposals: Any, targets: Any = None) -> Any:
        return self.inner(images, features, proposals, targets)


def test_heads_that_extend_none_of_detectron2s() -> None:
    model: Any = weights.build_model(load_config(source_of("mask_rcnn_fpn")))
    cfg = load_config(source_of("mask_rcnn_fpn")).cfg
    model.roi_heads = WrappedHeads(cfg, model.backbone.output_shape())
    family = seen(model)
    assert family.name == "GeneralizedRCNN with WrappedHeads"
    assert family.outputs == (*INSTANCES, "pred_masks")
    assert family.is_own
    assert not family.postprocessed


@pytest.mark.parametrize(
    ("model", "outputs", "postprocessed"),
    [
        ("peaks", INSTANCES, False),
        ("peaks_of_its_own_ending", (*INSTANCES, "pred_masks"), True),
        (
            "mask_queries",
            (*INSTANCES, "pred_masks", "sem_seg", "panoptic_seg", "segments_info"),
            True,
        ),
    ],
)
def test_models_of_our_own(model: str, outputs: tuple[str, ...], postprocessed: bool) -> None:
    family = seen(weights.build_model(load_config(source_of(model))))
    assert (family.outputs, family.postprocessed) == (outputs, postprocessed)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda *_: found(), r"Own .*test_answers\.py:\d+\) answers one image with a list"),
        (lambda *_: {"depth": torch.zeros(1)}, "answers depth alone"),
        (lambda *_: {"sem_seg": torch.zeros(100, 120)}, r"sem_seg as \(100, 120\)"),
        (lambda *_: {"instances": torch.zeros(3)}, "answers instances as Tensor"),
        (lambda *_: {"instances": Instances((5, 5))}, "without pred_boxes, scores, pred_classes"),
        (
            lambda *_: {"instances": found(pred_masks=torch.rand(2, 1, 9, 9))},
            r"pred_masks of another shape than \(N, H, W\)",
        ),
        (lambda image, *_: image[7], "fails on an image by itself.*IndexError"),
    ],
)
def test_what_no_reply_carries_is_refused_by_name(answer: Answer, message: str) -> None:
    with pytest.raises(UnsupportedFamily, match=message):
        seen(Own(answer))


def test_a_method_that_only_looks_like_maskformers_is_refused_with_its_line() -> None:
    config = load_config(source_of("mask_queries"))
    assert config.cfg is not None
    config.cfg.defrost()
    config.cfg.MODEL.META_ARCHITECTURE = "UnlikeMaskFormer"
    model = build_model(config.cfg)
    with pytest.raises(UnsupportedFamily, match=r"UnlikeMaskFormer\.panoptic_inference .*\.py:\d+"):
        seen(model)
