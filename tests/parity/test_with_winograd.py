"""Winograd's convolutions keep the answers of every example that takes them by itself.

The other comparisons of this folder ask served archives, which take them by themselves once the
export has found this.
"""

from __future__ import annotations

import pytest

from d2serve.handlers.bundle import read_bundled_spec
from d2serve.handlers.spec.convolution import is_automatic
from d2serve.kernels.library import ways
from tests.conftest import MODELS, Exporter
from tests.ways import FAMILIES, tiered

CASES = [
    (model, kind)
    for kind in ("onnxruntime", "openvino")
    for model in (*MODELS, *(each for each, kinds in FAMILIES.items() if kind in kinds))
]


@pytest.mark.export
@pytest.mark.skipif(len(ways()) < 2, reason="no fast native kernels are installed")
@pytest.mark.parametrize(("model", "kind"), tiered(CASES))
def test_an_export_finds_its_answers_within_bounds(
    model: str, kind: str, exported: Exporter
) -> None:
    spec = read_bundled_spec(exported(model, kind))
    record = spec.verification["winograd"]
    assert record["note"] == ""
    assert record["bounds"] == spec.verification["bounds"]
    assert len(record["differences"]) == len(spec.verification["differences"])
    assert sum(each["detections"] for each in record["differences"]) > 0
    assert is_automatic(spec.runtime, spec.verification)
