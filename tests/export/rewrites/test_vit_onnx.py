"""A rewritten ViTDet in ONNX on both runtimes, at sizes that its trace never saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2serve.export.rewrites.rewrite import TRACING, rewritten
from tests.export.rewrites import small, ways
from tests.export.rewrites.test_vit import FIRST, OTHERS, REWRITES


@pytest.mark.export
def test_any_size_in_onnx(tmp_path: Path) -> None:
    model = small.vit_det(residual_block_indexes=[1])
    changed, names = rewritten(model, TRACING, REWRITES)
    assert set(names) == {"vit_attention", "vit_block", "vit_positions"}
    programs = ways.onnx_programs(changed, FIRST, tmp_path)
    for image in OTHERS[:3]:
        expected = ways.eager(model, [image])[0]
        for program in (programs.onnxruntime, programs.openvino):
            found = program(image)
            ways.assert_close(found, expected, pred_boxes=2e-4, scores=1e-5, pred_masks=1e-4)
