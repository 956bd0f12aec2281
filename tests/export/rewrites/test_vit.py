"""ViTDet as it is and rewritten, every way."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import ListConfig
from torch import Tensor, nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.rewrites.config_lists import CONFIG_LISTS
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite, rewritten
from d2serve.export.rewrites.vit import (
    SIMPLE_FEATURE_PYRAMID,
    VIT_ATTENTION,
    VIT_BLOCK,
    VIT_POSITIONS,
)
from tests.export.rewrites import small, ways

REWRITES = (SIMPLE_FEATURE_PYRAMID, VIT_ATTENTION, VIT_BLOCK, VIT_POSITIONS, CONFIG_LISTS)
FIRST, *OTHERS = ways.images((96, 128), (64, 120), (128, 97), (70, 50), (128, 128))


class _Mlp(nn.Module):
    """What detectron2 takes from timm, where timm is not installed."""

    def __init__(self, in_features: int, hidden_features: int, act_layer: Any) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc2(self.act(self.fc1(x)))
        return found


class _DropPath(nn.Identity):
    """As timm's, outside of training."""


@pytest.fixture(scope="module", autouse=True)
def _timm() -> Iterator[None]:
    if importlib.util.find_spec("timm") is not None:
        yield
        return
    names = ("timm", "timm.models", "timm.models.layers")
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[names[-1]]).update(Mlp=_Mlp, DropPath=_DropPath)
    yield
    for name in names:
        del sys.modules[name]


@dataclass(frozen=True)
class Case:
    model: Any
    rewritten: nn.Module


@pytest.fixture(
    scope="module",
    params=[{"square_pad": 128}, {"residual_block_indexes": [1]}],
    ids=["square", "any_size"],
)
def case(request: pytest.FixtureRequest) -> Case:
    model = small.vit_det(**request.param)
    return Case(model, rewritten(model, SCRIPTING, REWRITES)[0])


def test_the_users_model_is_left_as_it_is(case: Case) -> None:
    assert list(case.rewritten.state_dict()) == list(case.model.state_dict())
    assert type(case.model.backbone) is SIMPLE_FEATURE_PYRAMID.replaces
    assert isinstance(case.model.proposal_generator.in_features, ListConfig)
    assert type(case.rewritten.proposal_generator.in_features) is list  # type: ignore[union-attr]


def test_rewritten_and_scripted_equal_eager(case: Case) -> None:
    program = ways.scripted(rewritten(case.model, SCRIPTING, REWRITES)[0])
    for batch in (OTHERS[:1], OTHERS[1:3], [*OTHERS, FIRST]):
        expected = ways.eager(case.model, batch)
        assert len(expected[0]["scores"]) > 5
        for got in (ways.eager(case.rewritten, batch), program(batch)):
            for mine, theirs in zip(got, expected):
                ways.assert_close(mine, theirs)


def test_traced_and_onnx(case: Case, tmp_path: Path) -> None:
    changed = rewritten(case.model, TRACING, REWRITES)[0]
    trace = ways.traced(changed, FIRST)
    programs = ways.onnx_programs(changed, FIRST, tmp_path)
    for image in OTHERS:
        expected = ways.eager(case.model, [image])[0]
        ways.assert_close(trace(image), expected)
        for program in (programs.onnxruntime, programs.openvino):
            found = program(image)
            ways.assert_close(found, expected, pred_boxes=2e-4, scores=1e-5, pred_masks=1e-4)


def test_no_detections(case: Case) -> None:
    changed: Any = rewritten(case.model, TRACING, REWRITES)[0]
    best = [float(ways.eager(case.model, [i])[0]["scores"].max()) for i in (FIRST, OTHERS[2])]
    assert best[1] < best[0]
    for model in (case.model, changed):
        model.roi_heads.box_predictor.test_score_thresh = sum(best) / 2
    try:
        found = ways.traced(changed, FIRST)(OTHERS[2])
        ways.assert_close(found, ways.eager(case.model, [OTHERS[2]])[0])
        assert len(found["scores"]) == 0
    finally:
        case.model.roi_heads.box_predictor.test_score_thresh = 0.4


@pytest.mark.parametrize("rewrite", REWRITES[:4], ids=lambda rewrite: rewrite.name)
def test_a_subclass_that_overrides_is_refused(rewrite: Rewrite) -> None:
    model = small.vit_det()
    for module in model.modules():
        if isinstance(module, rewrite.replaces):
            module.__class__ = type("Mine", (rewrite.replaces,), {"forward": lambda _, x: x})
            break
    with pytest.raises(UnsupportedFamily, match=r"Mine\.forward overrides"):
        rewritten(model, SCRIPTING, REWRITES)
