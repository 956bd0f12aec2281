"""A batch in one program is what eager detectron2 answers to the same batch, each image's own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime
import openvino as ov
import pytest
import torch
from detectron2.layers import batched_nms
from detectron2.modeling.proposal_generator import RPN
from torch import Tensor, nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.programs.batches import why_no_batches
from d2serve.export.programs.onnx import write_onnx
from d2serve.export.programs.openvino import from_onnx
from d2serve.export.programs.tracing import batch_inputs
from d2serve.export.proof.oracle import prepared
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import family_of
from d2serve.export.reading.image_files import Pixels
from d2serve.export.reading.samples import builtin_sample, sized_variants, without_detection
from d2serve.export.reading.weights import load_model
from d2serve.export.rewrites.batches.registry import exportable_in_batches
from d2serve.export.rewrites.batches.suppression import (
    NOWHERE,
    Rows,
    best_of_images,
    suppressed,
)
from d2serve.export.rewrites.endings import as_tensor
from d2serve.handlers.runtimes.joining import joined, separated
from d2serve.handlers.spec.bounds import ONNX_BOUNDS
from d2serve.handlers.spec.extras import INSTANCE, output_name
from d2serve.handlers.spec.image_form import BGR, ImageForm
from d2serve.handlers.spec.output_names import IMAGE_OF_INSTANCE, MASKS
from tests.conftest import source_of
from tests.export.rewrites import small, ways

TRAINED = ("mask_rcnn_fpn", "faster_rcnn_c4", "cascade_mask_rcnn_fpn", "retinanet", "fcos")
# ONNX's GroupNorm is written in other operators, which round otherwise (layers/group_norm.py).
ROUNDS = {"fcos": {"pred_boxes": 1e-3, "scores": 1e-5}}
INSTANCES = ("pred_boxes", "scores", "pred_classes")
_OWN = output_name(INSTANCE, IMAGE_OF_INSTANCE)


@cache
def trained(name: str) -> nn.Module:
    return load_model(load_config(source_of(name)))


def small_input(pixels: Pixels) -> Tensor:
    return torch.as_tensor(prepared(pixels, ImageForm(BGR, 3), 192, 320)["image"])


def mixed(model: nn.Module) -> list[Tensor]:
    """Images of four sizes, in the second of which nothing is found."""

    def count(pixels: Pixels) -> int:
        return len(ways.eager(model, [small_input(pixels)])[0]["scores"])

    pictures = sized_variants(builtin_sample())
    blank = without_detection(3, count)
    assert blank is not None
    chosen = (pictures["half"], blank, pictures["panorama"], pictures["turned"])
    return [small_input(each) for each in chosen]


def in_one_call(model: nn.Module, images: Sequence[Tensor]) -> list[ways.Fields]:
    """What the rewritten model answers, eagerly, with something beyond each image."""
    batch, sizes = joined([each.numpy() for each in images])
    given = torch.from_numpy(batch)
    for place, image in zip(given, images):
        place[:, image.shape[1] :] = 77
        place[:, :, image.shape[2] :] = 77
    changed, _names = exportable_in_batches(model)
    with torch.no_grad():
        (found,) = changed([{"images": given, "sizes": torch.from_numpy(sizes)}])
    answers = {IMAGE_OF_INSTANCE if n == _OWN else n: v.numpy() for n, v in found.items()}
    return [
        {name: torch.from_numpy(value) for name, value in each.items()}
        for each in separated(answers, len(images))
    ]


@pytest.mark.parametrize("name", TRAINED)
def test_rewritten_for_batches_equals_eager(name: str) -> None:
    model = trained(name)
    images = mixed(model)
    expected = ways.eager(model, images)
    counts = [len(each["scores"]) for each in expected]
    assert counts[1] == 0
    assert min(counts[0], *counts[2:]) > 5
    for mine, theirs in zip(in_one_call(model, images), expected):
        mine = {name: value for name, value in mine.items() if name in theirs}
        if MASKS in theirs:
            theirs[MASKS] = as_tensor(theirs[MASKS])
        ways.assert_close(mine, theirs, **ROUNDS.get(name, {}))


def test_an_image_that_is_padded_to_a_square() -> None:
    """As ViTDet does, whatever the others' sizes."""
    model = small.vit_det(square_pad=128)
    images = ways.images((96, 128), (64, 100))
    expected = ways.eager(model, images)
    assert min(len(each["scores"]) for each in expected) > 5
    for mine, theirs in zip(in_one_call(model, images), expected):
        if MASKS in theirs:
            theirs[MASKS] = as_tensor(theirs[MASKS])
        got = {name: mine[name] for name in theirs}
        ways.assert_close(got, theirs, pred_boxes=1e-3, scores=1e-5, pred_masks=1e-3)


@pytest.mark.export
def test_both_runtimes_take_any_number_of_images(tmp_path: Path) -> None:
    model = small.fcos()
    images = ways.images((96, 128), (64, 160), (130, 97))
    blank = model.pixel_mean.expand(3, 90, 70).contiguous()
    target = tmp_path / "program.onnx"
    outputs = (*INSTANCES, IMAGE_OF_INSTANCE)
    changed, _names = exportable_in_batches(model)
    given = batch_inputs(images[0])
    assert write_onnx(changed, outputs, given, target, {}, dynamic_batch=True) == ()
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    compiled = ov.compile_model(from_onnx(target), "CPU", ways.OPENVINO)

    def by_onnxruntime(batch: Any, sizes: Any) -> list[Any]:
        return list(session.run(outputs, {"images": batch, "sizes": sizes}))

    def by_openvino(batch: Any, sizes: Any) -> list[Any]:
        found = compiled([batch, sizes])
        return [found[name].copy() for name in outputs]

    counts = []
    for run in (by_onnxruntime, by_openvino):
        for batch in ([images[1]], [*images, blank], [blank, images[2]], [blank, blank]):
            expected = ways.eager(model, batch)
            answers = dict(zip(outputs, run(*joined([each.numpy() for each in batch]))))
            for mine, theirs in zip(separated(answers, len(batch)), expected):
                got = {name: torch.from_numpy(value) for name, value in mine.items()}
                # Its boxes reach 2000 px beyond the image, where float32 is coarse.
                ways.assert_close(got, theirs, pred_boxes=ONNX_BOUNDS.box_px, scores=1e-5)
            counts.append([len(each["scores"]) for each in expected])
    assert counts[0][0] > 50
    assert counts[1][3] == counts[2][0] == 0
    assert counts[3] == [0, 0]


def test_each_images_boxes_are_suppressed_as_torchvision_suppresses_them() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand((3, 60, 2), generator=generator) * 200
    boxes = torch.cat([corners, corners + 20 + torch.rand((3, 60, 2), generator=generator) * 60], 2)
    scores = torch.randn((3, 60), generator=generator)
    classes = torch.randint(0, 3, (3, 60), generator=generator)
    scores[1] = NOWHERE
    scores[2, ::2] = NOWHERE
    images, places = suppressed(boxes, scores, classes, 0.5, 20)
    for image in range(3):
        there = (scores[image] > NOWHERE).nonzero()[:, 0]
        own = boxes[image, there], scores[image, there], classes[image, there]
        expected = there[batched_nms(*own, 0.5)][:20]
        assert places[images == image].tolist() == expected.tolist()
    assert (images == 0).sum() == 20


def test_rows_in_any_order_find_their_place() -> None:
    images = torch.tensor([2, 0, 2, 0, 0])
    rows = Rows(images, torch.tensor(4))
    table = rows.table(torch.tensor([1.0, 2, 3, 4, 5]), -1.0)
    assert table.tolist() == [[2, 4, 5], [-1] * 3, [1, 3, -1], [-1] * 3]
    none = Rows(images[:0], torch.tensor(2)).table(torch.zeros((0, 4)), 0.0)
    assert none.shape == (2, 1, 4)


def test_a_negative_number_of_detections_is_all() -> None:
    apart = torch.arange(150.0)[:, None] * 10 + torch.tensor([0.0, 0, 5, 5])
    scores = torch.linspace(1, 0.1, 150)
    zeros = torch.zeros(150, dtype=torch.int64)
    given = (apart, scores, zeros, zeros, torch.tensor(1), 0.5)
    assert best_of_images(*given, -1).tolist() == list(range(150))
    assert best_of_images(*given, 100).tolist() == list(range(100))


def test_a_model_that_looks_at_images_one_by_one_is_refused_by_name() -> None:
    model = small.point_rend()
    refusal = str(why_no_batches(model, family_of(model)))
    assert "roi_heads.mask_head (PointRendMaskHead)" in refusal
    assert "Leave out --dynamic-batch" in refusal


def test_proposals_of_ones_own_are_refused_by_name() -> None:
    class MyRPN(RPN):  # type: ignore[misc]
        def predict_proposals(self, *given: Any) -> Any:
            return super().predict_proposals(*given)

    model = small.vit_det()
    model.proposal_generator.__class__ = MyRPN
    with pytest.raises(UnsupportedFamily, match=r"MyRPN\.predict_proposals .*proposal_batches"):
        exportable_in_batches(model)
