"""What OpenVINO misreads in an ONNX file is written otherwise before it reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from torch import nn

from d2serve.export.programs.openvino import from_onnx


class LogSumExp(nn.Module):
    def __init__(self, axis: int, keep: bool) -> None:
        super().__init__()
        self._axis, self._keep = axis, keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.logsumexp(x, self._axis, self._keep)


@pytest.mark.parametrize(("axis", "keep"), [(0, False), (1, True), (-1, False)])
def test_log_sum_exp_over_one_axis(axis: int, keep: bool, tmp_path: Path) -> None:
    """OpenVINO 2026.4 takes it over all."""
    model, x = LogSumExp(axis, keep), torch.linspace(-3, 90, 60).reshape(3, 4, 5)
    torch.onnx.export(
        model, (x,), str(tmp_path / "p.onnx"), dynamo=False, dynamic_axes={"x": {1: "n"}},
        input_names=["x"], opset_version=17,
    )  # fmt: skip
    compiled = ov.Core().compile_model(
        from_onnx(tmp_path / "p.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    assert np.allclose(compiled(x.numpy())[0], model(x).numpy(), atol=1e-4)
