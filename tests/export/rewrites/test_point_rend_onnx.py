"""PointRend traced, and its ONNX on both runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2serve.export.rewrites.rewrite import ONNX, TRACING, rewritten
from tests.export.rewrites import small, ways
from tests.export.rewrites.test_point_rend import IMPLICIT, REWRITES

FIRST, *OTHERS = ways.images((96, 128), (64, 160), (130, 97))


@pytest.mark.export
@pytest.mark.parametrize("overrides", [(), IMPLICIT], ids=["standard", "implicit"])
def test_traced_and_onnx(overrides: tuple[str, ...], tmp_path: Path) -> None:
    model = small.point_rend(*overrides)
    traceable = rewritten(model, TRACING, REWRITES)[0]
    trace = ways.traced(traceable, FIRST)
    programs = ways.onnx_programs(rewritten(traceable, ONNX, REWRITES)[0], FIRST, tmp_path)
    blank = model.pixel_mean.expand(3, 90, 70).contiguous()
    for image in (*OTHERS, blank):
        expected = ways.eager(model, [image])[0]
        ways.assert_close(trace(image), expected)
        for program in (programs.onnxruntime, programs.openvino):
            found = program(image)
            # Points equally uncertain but for rounding may be refined or not.
            ways.assert_close(found, expected, pred_boxes=2e-4, scores=1e-5, pred_masks=0.02)
    assert len(expected["scores"]) == 0
