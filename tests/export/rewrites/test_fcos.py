"""FCOS as it is and rewritten, every way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling.meta_arch.fcos import FCOSHead
from torch import Tensor

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.rewrites.heads.fcos import FCOS_BOX_TRANSFORM, FCOS_HEAD
from d2serve.export.rewrites.rewrite import ONNX, SCRIPTING, TRACING, rewritten
from tests.export.rewrites import small, ways

REWRITES = (FCOS_HEAD, FCOS_BOX_TRANSFORM)
MODEL = small.fcos()
FIRST, *OTHERS = ways.images((96, 128), (64, 160), (130, 97), (33, 50), (90, 70))
BLANK = MODEL.pixel_mean.expand(3, 90, 70).contiguous()


def test_it_needs_nothing_but_for_scripting() -> None:
    assert rewritten(MODEL, TRACING, REWRITES)[1] == ()
    assert rewritten(MODEL, ONNX, REWRITES)[1] == ()
    changed, names = rewritten(MODEL, SCRIPTING, REWRITES)
    assert set(names) == {"fcos_head", "fcos_box_transform"}
    assert list(changed.state_dict()) == list(MODEL.state_dict())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_rewritten_and_scripted_equal_eager(count: int, scripted: ways.BatchProgram) -> None:
    batch = [*OTHERS, BLANK][-count:]
    expected = ways.eager(MODEL, batch)
    assert len(expected[-1]["scores"]) == 0
    changed, _ = rewritten(MODEL, SCRIPTING, REWRITES)
    for got in (ways.eager(changed, batch), scripted(batch)):
        for mine, theirs in zip(got, expected):
            ways.assert_close(mine, theirs)


@pytest.fixture(scope="module")
def scripted() -> ways.BatchProgram:
    return ways.scripted(rewritten(MODEL, SCRIPTING, REWRITES)[0])


@pytest.mark.export
def test_traced_and_onnx(tmp_path: Path) -> None:
    trace = ways.traced(MODEL, FIRST)
    programs = ways.onnx_programs(MODEL, FIRST, tmp_path)
    counts = []
    for image in (*OTHERS, BLANK):
        expected = ways.eager(MODEL, [image])[0]
        counts.append(len(expected["scores"]))
        ways.assert_close(trace(image), expected)
        for program in (programs.onnxruntime, programs.openvino):
            ways.assert_close(program(image), expected, pred_boxes=2e-3, scores=1e-5)
    assert min(counts[:-1]) > 50
    assert counts[-1] == 0


def test_a_head_that_overrides_forward_is_refused() -> None:
    class MyHead(FCOSHead):  # type: ignore[misc]
        def forward(self, features: list[Tensor]) -> list[list[Tensor]]:
            return [list(map(torch.neg, each)) for each in super().forward(features)]

    model = small.fcos()
    model.head.__class__ = MyHead
    with pytest.raises(UnsupportedFamily, match=r"MyHead\.forward .*overrides"):
        rewritten(model, SCRIPTING, REWRITES)
