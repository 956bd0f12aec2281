"""With Winograd's convolutions a TorchScript archive keeps within the bounds of ONNX programs.

It takes them only where its YAML asks for them by name, so its export says nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from d2serve.client.predict.in_process import InProcessClient
from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.oracle import Oracle
from d2serve.handlers.spec.bounds import ONNX_BOUNDS
from d2serve.handlers.spec.convolution import WINOGRAD, is_automatic
from d2serve.kernels.library import library
from tests.conftest import METHODS, Exporter
from tests.parity.references import reference_for
from tests.ways import MODELS, tiered


@pytest.mark.export
@pytest.mark.skipif(library() is None, reason="no native kernels are installed")
@pytest.mark.parametrize(("model", "kind"), tiered((m, k) for m in MODELS for k in METHODS))
def test_the_answers_are_default_predictors(
    model: str,
    kind: str,
    exported: Exporter,
    few_files: list[Path],
    oracle_of: Callable[[str], Oracle],
) -> None:
    archive = exported(model, kind)
    things = 0
    with (
        InProcessClient(archive, threads=1, convolution=WINOGRAD) as own,
        InProcessClient(archive, threads=1) as direct,
    ):
        assert not is_automatic(own.spec.runtime, own.spec.verification)
        is_another = False
        for file in few_files:
            got, expected = (each.predict(file).to_outputs() for each in (own, direct))
            reference = reference_for(oracle_of(model), file)
            difference = compare(file.name, reference.outputs, got, ONNX_BOUNDS)
            assert difference.misses == ()
            things += difference.detections
            assert got.instances is not None
            assert expected.instances is not None
            is_another |= not np.array_equal(got.instances.scores, expected.instances.scores)
    assert things >= 10  # agreement on nothing would show nothing
    assert is_another
