"""ViTDet as it is and rewritten, every way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from omegaconf import ListConfig
from torch import nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.rewrites.backbones.vit import (
    SIMPLE_FEATURE_PYRAMID,
    VIT_ATTENTION,
    VIT_BLOCK,
    VIT_POSITIONS,
)
from d2serve.export.rewrites.config_lists import CONFIG_LISTS
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite, rewritten
from tests.export.rewrites import small, ways

REWRITES = (SIMPLE_FEATURE_PYRAMID, VIT_ATTENTION, VIT_BLOCK, VIT_POSITIONS, CONFIG_LISTS)
FIRST, *OTHERS = ways.images((96, 128), (64, 120), (128, 97), (70, 50), (128, 128))


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


def test_traced_at_other_sizes(case: Case) -> None:
    trace = ways.traced(rewritten(case.model, TRACING, REWRITES)[0], FIRST)
    for image in OTHERS:
        ways.assert_close(trace(image), ways.eager(case.model, [image])[0])


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
    with pytest.raises(UnsupportedFamily, match=r"Mine\.forward .*overrides"):
        rewritten(model, SCRIPTING, REWRITES)
