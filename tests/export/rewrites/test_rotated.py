"""Rotated R-CNN, traced and scripted, beside detectron2's own eager code on the same batch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.export import scripting_with_instances
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from torch import Tensor, nn
from torch.jit._fuser import optimized_execution

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.programs.tracing import trace
from d2serve.export.rewrites.endings import UPSTREAMS_ENDINGS
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, rewritten
from d2serve.export.rewrites.rotated.heads import ROTATED_OUTPUT_LAYERS, RROI_HEADS
from d2serve.export.rewrites.rotated.proposals import ROTATED_ANCHORS, RRPN_PROPOSALS
from d2serve.export.rewrites.rotated.roi_align import ROI_ALIGN_ROTATED
from d2serve.export.rewrites.rotated.scripted_boxes import scripted_fields
from d2serve.export.rewrites.rotated.stand_ins import plain_rotated_operators

REWRITES = (
    *UPSTREAMS_ENDINGS,
    RROI_HEADS,
    ROTATED_OUTPUT_LAYERS,
    RRPN_PROPOSALS,
    ROTATED_ANCHORS,
    ROI_ALIGN_ROTATED,
)
OUTPUTS = ("pred_boxes", "scores", "pred_classes")
SIZES = ((96, 128), (160, 96), (64, 200), (96, 96), (131, 77))
ROOT = Path(__file__).resolve().parents[3]


@cache
def _model(agnostic: bool = False) -> Any:
    cfg = get_cfg()
    cfg.merge_from_file(str(ROOT / "examples/shapes/models/rotated_faster_rcnn_fpn.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = agnostic
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    with torch.no_grad():  # apart, so that no two scores tie
        model.roi_heads.box_predictor.cls_score.weight.mul_(8)
    return model


def _images() -> list[dict[str, Tensor]]:
    random = torch.Generator().manual_seed(0)
    return [{"image": torch.rand(3, *size, generator=random) * 255} for size in SIZES]


def _eager(model: Any, images: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    with plain_rotated_operators(), torch.no_grad():
        found = model.inference(images, None, False)
    return [
        {
            "pred_boxes": each.pred_boxes.tensor,
            "scores": each.scores,
            "pred_classes": each.pred_classes,
        }
        for each in found
    ]


def _assert_equal(found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert len(theirs["scores"]) > 10
        assert len(ours["scores"]) == len(theirs["scores"])
        assert ours["pred_classes"].tolist() == theirs["pred_classes"].tolist()
        assert (ours["pred_boxes"] - theirs["pred_boxes"]).abs().max() < 0.01
        assert (ours["scores"] - theirs["scores"]).abs().max() < 1e-4


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("way", [TRACING, SCRIPTING])
def test_equivalents_are_eagerly_the_same(way: str, agnostic: bool) -> None:
    model, images = _model(agnostic), _images()[:2]
    changed, names = rewritten(model, way, REWRITES)
    assert {"rrpn", "rotated_output_layers", "rroi_heads", "roi_align_rotated"} <= set(names)
    assert changed.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        _assert_equal(changed(images), _eager(model, images))


def test_traced_at_any_size() -> None:
    model, images = _model(), _images()
    changed, _ = rewritten(model, TRACING, REWRITES)
    program = trace(changed, OUTPUTS, (images[0]["image"],)).module
    assert "detectron2::" not in str(program.inlined_graph)
    for each in images[:4]:
        with torch.no_grad(), optimized_execution(False):
            found = dict(zip(OUTPUTS, program(each["image"])))
        _assert_equal([found], _eager(model, [each]))


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> torch.jit.ScriptModule:
    """A scripted program, saved and loaded."""
    changed, _ = rewritten(_model(), SCRIPTING, REWRITES)
    fields = {
        "proposal_boxes": Boxes,
        "objectness_logits": Tensor,
        "pred_boxes": Boxes,
        "scores": Tensor,
        "pred_classes": Tensor,
        **scripted_fields(changed),
    }
    file = tmp_path_factory.mktemp("scripted") / "model.pt"
    scripting_with_instances(changed, fields).save(str(file))
    loaded: torch.jit.ScriptModule = torch.jit.load(str(file))  # type: ignore[no-untyped-call]
    return loaded


@pytest.mark.parametrize("count", [1, 2, 5])
def test_scripted_takes_batches_of_mixed_sizes(
    count: int, scripted: torch.jit.ScriptModule
) -> None:
    images = _images()[:count]
    with torch.no_grad(), optimized_execution(False):
        found = scripted(images)
    _assert_equal(found, _eager(_model(), images))


def test_no_detections() -> None:
    model = _model()
    changed, _ = rewritten(model, TRACING, REWRITES)
    predictor = changed.get_submodule("roi_heads.box_predictor")
    predictor.test_score_thresh = 2.0  # type: ignore[assignment]
    with torch.no_grad():
        (found,) = changed(_images()[:1])
    assert [tuple(found[name].shape) for name in OUTPUTS] == [(0, 5), (0,), (0,)]


def test_an_overridden_method_is_refused() -> None:
    model = build_model_with_own_proposals()
    with pytest.raises(UnsupportedFamily, match=r"Own\.predict_proposals"):
        rewritten(model, TRACING, REWRITES)


def build_model_with_own_proposals() -> nn.Module:
    """The model, with a proposal generator of a user's own."""
    import copy

    model: nn.Module = copy.deepcopy(_model())
    generator = model.get_submodule("proposal_generator")

    class Own(type(generator)):  # type: ignore[misc]
        def predict_proposals(self, *arguments: Any) -> Any:
            return super().predict_proposals(*arguments)

    generator.__class__ = Own
    return model
