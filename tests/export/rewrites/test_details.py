"""ROI heads make masks and keypoints of those instances that are asked for, as of all of them."""

# No `from __future__ import annotations` here, as where TorchScript reads what is tested.

from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from torch import Tensor

from d2serve.export.programs.scripting import script
from d2serve.export.programs.tracing import trace
from d2serve.export.reading.families import family_of
from d2serve.export.rewrites.details import makes_details
from d2serve.export.rewrites.registry import exportable
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING
from d2serve.handlers.spec.program_inputs import DETAIL_INPUTS
from tests.export.rewrites.test_exportable import batch_of, model_of

DETAILED = ("pred_masks", "pred_keypoint")
Answers = list[dict[str, Tensor]]
Wish = tuple[Tensor, Tensor]
NAMES = ("mask_rcnn_fpn", "keypoint_rcnn_fpn", "cascade_mask_rcnn_fpn", "point_rend")


def wishes(classes: int, found: Answers) -> list[Wish]:
    """All, none, the best three, those above a score that one has, and those of one class."""
    everything = torch.full((classes,), -torch.inf)
    one_class = torch.full((classes,), torch.inf)
    one_class[0] = 0.0
    middle = float(found[0]["scores"][len(found[0]["scores"]) // 2])
    return [
        (everything, torch.tensor(100)),
        (everything, torch.tensor(0)),
        (everything, torch.tensor(3)),
        (torch.full((classes,), middle), torch.tensor(100)),
        (one_class, torch.tensor(2)),
    ]


def untouched(model: Any, batch: list[dict[str, Any]]) -> Answers:
    """What detectron2's own heads answer, before its postprocessing changes it."""
    with torch.no_grad():
        found = model.inference(batch, None, do_postprocess=False)
    return [
        {n: v if isinstance(v, Tensor) else v.tensor for n, v in each.get_fields().items()}
        for each in found
    ]


def assert_asked(expected: dict[str, Tensor], got: dict[str, Tensor], wish: Wish) -> int:
    """Those of the best of all that exceed what their class needs; how many.

    Convolutions may sum a batch of another size in another order.
    """
    scores, classes = expected["scores"].tolist(), expected["pred_classes"].tolist()
    needed, most = wish[0].tolist(), int(wish[1])
    rows = [i for i, s in enumerate(scores) if s > needed[classes[i]]][:most]
    assert any(name.startswith(DETAILED) for name in got)
    for name, value in got.items():
        if name.startswith(DETAILED):
            torch.testing.assert_close(value, expected[name][rows], rtol=1e-5, atol=1e-4)
        else:
            assert torch.equal(value, expected[name]), name
    return len(rows)


def given(image: Tensor, wish: Wish) -> dict[str, Tensor]:
    return {"image": image, **dict(zip(DETAIL_INPUTS, wish, strict=True))}


def check(name: str, ask: Callable[[Any], Answers], together: bool = False) -> None:
    """Every wish, of images of several sizes in one batch or of one image again and again."""
    model = model_of(name)
    batch = batch_of(name, [0, 1, 2, 3, 4] if together else [1])
    expected = untouched(model, batch) * (1 if together else 5)
    asked = wishes(family_of(model).detail_classes or 0, expected)
    images = [each["image"] for each in batch] * (1 if together else 5)
    inputs = [given(*each) for each in zip(images, asked)]
    with torch.no_grad():
        answers = ask(inputs) if together else [ask([each])[0] for each in inputs]
    counts = [assert_asked(*each) for each in zip(expected, answers, asked)]
    assert counts[0] > counts[2] > 0
    assert counts[1] == 0
    assert 0 < counts[3] < len(expected[3]["scores"])


@pytest.mark.parametrize("name", NAMES)
def test_eagerly(name: str) -> None:
    changed, _names = exportable(model_of(name), TRACING, in_detail=True)
    check(name, changed)
    # Without being told it makes them of all.
    (image,) = batch_of(name, [1])
    with torch.no_grad():
        (got,) = changed([{"image": image["image"]}])
    (expected,) = untouched(model_of(name), [image])
    assert got.keys() == expected.keys()
    assert all(torch.equal(expected[field], value) for field, value in got.items())


@pytest.mark.long
def test_in_a_scripted_batch_each_image_has_its_own_wish() -> None:
    changed, _names = exportable(model_of("keypoint_rcnn_fpn"), SCRIPTING, in_detail=True)
    check("keypoint_rcnn_fpn", script(changed).module, together=True)


def test_a_trace_follows_what_it_is_told() -> None:
    model = model_of("mask_rcnn_fpn")
    outputs = family_of(model).outputs
    changed, _names = exportable(model, TRACING, in_detail=True)
    (first,) = batch_of("mask_rcnn_fpn", [0])
    everything = torch.full((family_of(model).num_classes or 0,), -torch.inf)
    inputs = (first["image"], everything, torch.tensor(100))
    made = trace(changed, outputs, inputs, DETAIL_INPUTS)
    assert made.doubts == ()

    def ask(inputs: list[dict[str, Tensor]]) -> Answers:
        return [dict(zip(outputs, made.module(*each.values()), strict=True)) for each in inputs]

    check("mask_rcnn_fpn", ask)


class _OwnHead(MaskRCNNConvUpsampleHead):  # type: ignore[misc]
    def forward(self, x: Tensor, instances: Any) -> Any:
        found = super().forward(x, instances)
        for each in found:
            each.scores = each.scores * 0.5
        return found


class _OwnLayers(MaskRCNNConvUpsampleHead):  # type: ignore[misc]
    def layers(self, x: Tensor) -> Any:
        return super().layers(x) + 1


class _OwnHeads(StandardROIHeads):  # type: ignore[misc]
    def _forward_mask(self, features: Any, instances: Any) -> Any:
        return super()._forward_mask(features, instances)


@pytest.mark.parametrize(
    ("part", "kind", "still"),
    [
        ("roi_heads.mask_head", _OwnHead, False),
        ("roi_heads.mask_head", _OwnLayers, True),
        ("roi_heads", _OwnHeads, False),
    ],
)
def test_a_step_of_the_users_own_sees_all(part: str, kind: type, still: bool) -> None:
    model = model_of("mask_rcnn_fpn")
    module = model.get_submodule(part)
    before = module.__class__
    module.__class__ = kind
    try:
        assert makes_details(model) is still
    finally:
        module.__class__ = before
    assert makes_details(model)


@pytest.mark.parametrize("name", ["faster_rcnn_fpn", "panoptic_fpn", "fcos", "rpn_fpn"])
def test_others_are_not_asked(name: str) -> None:
    assert family_of(model_of(name)).detail_classes is None
