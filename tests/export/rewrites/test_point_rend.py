"""PointRend's mask heads as they are and rewritten, every way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from detectron2.projects.point_rend.mask_head import ImplicitPointRendMaskHead, PointRendMaskHead
from detectron2.projects.point_rend.point_head import StandardPointHead
from torch import Tensor, nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.rewrites.point_rend.mask_heads import POINT_REND
from d2serve.export.rewrites.point_rend.point_heads import (
    CONV_FC_HEAD,
    IMPLICIT_POINT_HEAD,
    STANDARD_POINT_HEAD,
)
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, rewritten
from tests.export.rewrites import small, ways

REWRITES = (POINT_REND, CONV_FC_HEAD, STANDARD_POINT_HEAD, IMPLICIT_POINT_HEAD)
IMPLICIT = (
    *("MODEL.ROI_MASK_HEAD.NAME", "ImplicitPointRendMaskHead"),
    *("MODEL.POINT_HEAD.NAME", "ImplicitPointHead"),
)
FIRST, *OTHERS = ways.images((96, 128), (64, 160), (130, 97), (70, 50), (80, 80))


@dataclass(frozen=True)
class Case:
    model: Any
    rewritten: nn.Module
    scripted: ways.BatchProgram
    blank: Tensor


@pytest.fixture(scope="module", params=[(), IMPLICIT], ids=["standard", "implicit"])
def case(request: pytest.FixtureRequest) -> Case:
    model = small.point_rend(*request.param)
    blank = model.pixel_mean.expand(3, 90, 70).contiguous()
    # Another copy, as scripting changes a model: detectron2's ResNet loses its stages' names.
    scripted = ways.scripted(rewritten(model, SCRIPTING, REWRITES)[0])
    return Case(model, rewritten(model, SCRIPTING, REWRITES)[0], scripted, blank)


def test_parameters_keep_their_names(case: Case) -> None:
    assert set(case.rewritten.state_dict()) == set(case.model.state_dict())
    traced = rewritten(case.model, TRACING, REWRITES)[1]
    implicit = isinstance(case.model.roi_heads.mask_head, ImplicitPointRendMaskHead)
    assert traced == ("point_rend",) + ("point_rend_implicit_point_head",) * implicit


def test_rewritten_and_scripted_equal_eager(case: Case) -> None:
    for batch in (OTHERS[:1], [OTHERS[1], case.blank], [*OTHERS, case.blank]):
        expected = ways.eager(case.model, batch)
        assert len(expected[0]["scores"]) > 10
        assert expected[0]["pred_masks"].std() > 0.05
        for got in (ways.eager(case.rewritten, batch), case.scripted(batch)):
            for mine, theirs in zip(got, expected):
                ways.assert_close(mine, theirs)


def test_a_batch_without_any_instance(case: Case) -> None:
    batch = [case.blank, case.blank]
    for fields in case.scripted(batch):
        assert len(fields["scores"]) == 0
        assert fields["pred_masks"].shape[:2] == (0, 1)


@pytest.mark.parametrize(
    ("method", "way"),
    [("forward", TRACING), ("_get_point_logits", SCRIPTING), ("_subdivision_inference", SCRIPTING)],
)
@pytest.mark.parametrize("kind", [PointRendMaskHead, ImplicitPointRendMaskHead])
def test_a_mask_head_that_overrides_is_refused(
    method: str, way: str, kind: type[nn.Module], case: Case
) -> None:
    if type(case.model.roi_heads.mask_head) is not kind:
        pytest.skip("the other kind")
    mine = type("MyMaskHead", (kind,), {method: lambda *_: None})
    case.model.roi_heads.mask_head.__class__ = mine
    try:
        with pytest.raises(UnsupportedFamily, match=rf"MyMaskHead\.{method} .*overrides"):
            rewritten(case.model, way, REWRITES)
    finally:
        case.model.roi_heads.mask_head.__class__ = kind


def test_a_point_head_that_overrides_is_refused() -> None:
    class MyPointHead(StandardPointHead):  # type: ignore[misc]
        def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
            return torch.neg(super().forward(fine, coarse))

    model = small.point_rend()
    model.roi_heads.mask_head.point_head.__class__ = MyPointHead
    with pytest.raises(UnsupportedFamily, match=r"MyPointHead\.forward .*overrides"):
        rewritten(model, SCRIPTING, REWRITES)
