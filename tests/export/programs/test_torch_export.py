"""What stands in for detectron2's functions answers as they do; the rest is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import openvino
import pytest
import torch
from torchvision.ops import batched_nms as torchvisions

from d2serve.export.programs.openvino import from_onnx
from d2serve.export.programs.torch_export.onnx import converted
from d2serve.export.programs.torch_export.refusals import why_lost, why_no_torch_export
from d2serve.export.programs.torch_export.stand_ins import graph_of_one_image
from d2serve.export.programs.torch_export.suppression import batched_nms
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import family_of
from d2serve.export.reading.samples import builtin_sample
from d2serve.export.reading.weights import build_model, load_model
from d2serve.export.rewrites.registry import exportable
from d2serve.export.rewrites.rewrite import TRACING
from d2serve.handlers.spec.extras import INSTANCE, Extra
from tests.exports import source_of

GROUPS = 5


def crowd(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes that overlap, scores with ties, and groups."""
    generator = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, generator=generator) * 300
    sizes = torch.rand(count, 2, generator=generator) * 200 + 1
    scores = (torch.rand(count, generator=generator) * 50).round() / 50
    groups = torch.randint(0, GROUPS, (count,), generator=generator)
    return torch.cat([corners, corners + sizes], dim=1), scores, groups


@pytest.mark.parametrize("count", [0, 1, 2, 300, 1000, 1001, 3000])
def test_it_suppresses_what_torchvision_suppresses_in_the_same_order(count: int) -> None:
    boxes, scores, groups = crowd(count)
    kept = batched_nms(boxes, scores, groups, 0.5, GROUPS)
    assert torch.equal(kept, torchvisions(boxes, scores, groups, 0.5))
    assert bool(len(kept)) == bool(count)


class Suppression(torch.nn.Module):
    """Drops the boxes below a score, and suppresses among the others."""

    def forward(self, boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor) -> Any:
        keep = scores > 0.5
        return batched_nms(boxes[keep], scores[keep], groups[keep], 0.5, GROUPS)


Suppress = Callable[..., Any]


@dataclass(frozen=True)
class Graph:
    """Of ``Suppression``."""

    in_torch: torch.export.ExportedProgram
    in_onnx: Path


def _in_torch(graph: Graph) -> Suppress:
    return graph.in_torch.module()


def _in_onnxruntime(graph: Graph) -> Suppress:
    session = onnxruntime.InferenceSession(graph.in_onnx)
    names = [each.name for each in session.get_inputs()]

    def suppress(*given: torch.Tensor) -> torch.Tensor:
        arrays = (each.numpy() for each in given)
        return torch.from_numpy(session.run(None, dict(zip(names, arrays)))[0])

    return suppress


def _in_openvino(graph: Graph) -> Suppress:
    model = openvino.Core().compile_model(from_onnx(graph.in_onnx), "CPU")
    return lambda *given: torch.from_numpy(model([each.numpy() for each in given])[0])


@pytest.fixture(scope="module")
def suppression(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Of boxes of any number, none of which may be left."""
    sides = ({0: torch.export.Dim.DYNAMIC},) * 3
    file = tmp_path_factory.mktemp("suppression") / "model.onnx"
    with graph_of_one_image(1):
        graph = torch.export.export(Suppression(), crowd(300), dynamic_shapes=sides)
        onnx.save(converted(graph, ("boxes", "scores", "groups"), ("kept",)), file)
    return Graph(graph, file)


@pytest.mark.parametrize("runner", [_in_torch, _in_onnxruntime, _in_openvino])
def test_one_graph_suppresses_among_none_one_and_thousands(
    runner: Callable[[Graph], Suppress], suppression: Graph
) -> None:
    """In either way of torchvision's, in ONNX as in torch."""
    graph = runner(suppression)
    found = []
    for count, factor in ((300, 1.0), (300, 0.0), (3000, 1.0), (2, 1.0), (3000, 0.51)):
        boxes, scores, groups = crowd(count)
        given = (boxes, scores * factor, groups)
        kept = graph(*given)
        left = [each[given[1] > 0.5] for each in given]
        expected = torchvisions(*left, 0.5)
        assert torch.equal(kept.sort()[0], expected.sort()[0])
        # Above 1,000 boxes torchvision leaves the order of equal scores to torch's sort.
        assert torch.equal(left[1][kept], left[1][expected])
        assert runner is not _in_torch or torch.equal(kept, expected)
        found.append(len(kept))
    assert found[1] == 0
    assert max(found) > 100


@pytest.mark.parametrize("name", ["mask_rcnn_fpn", "keypoint_rcnn_fpn", "retinanet", "fcos"])
def test_within_the_stand_ins_a_model_answers_as_before(name: str) -> None:
    """To the last digit, on an image with objects and on one without."""
    config = load_config(source_of(name))
    model = load_model(config)
    family = family_of(model)
    changed, _names = exportable(model, TRACING)
    scene = torch.from_numpy(builtin_sample()[::2, ::2].copy()).permute(2, 0, 1).float()
    for image, least in ((scene, 1), (torch.zeros(3, 64, 96), 0)):
        with torch.no_grad():
            (expected,) = changed([{"image": image}])
            with graph_of_one_image(family.num_classes or 1):
                (got,) = changed([{"image": image}])
        assert len(expected["scores"]) >= least
        for field in family.program_outputs:
            if field != "pred_keypoints":  # of which the handler makes them
                assert torch.equal(got[field], expected[field]), field


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("panoptic_fpn", "PanopticFPN is not exported with torch.export: only"),
        ("semantic_fpn", "SemanticSegmentor is not exported"),
        ("rpn_fpn", "ProposalNetwork is not exported"),
        ("rotated_faster_rcnn_fpn", r"proposal_generator \(RRPN\) is not .* rotated NMS"),
        ("point_rend", r"was not tried in a graph\. Use --format torchscript, or"),
    ],
)
def test_what_is_not_exported_is_refused_by_name(name: str, reason: str) -> None:
    model = build_model(load_config(source_of(name)))
    assert re.search(reason, why_no_torch_export(model) or "")


def test_fields_of_ones_own_are_refused_by_name() -> None:
    family = family_of(build_model(load_config(source_of("faster_rcnn_fpn"))))
    assert why_lost(family) is None
    depth = Extra("depth", INSTANCE, "Tensor", "float32", (3,))
    assert "The model answers depth beyond" in (why_lost(replace(family, extras=(depth,))) or "")
