"""ONNX of torch.export's graph answers as eager detectron2, on either runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from d2serve.client.predict.in_process import InProcessClient
from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.oracle import Oracle
from d2serve.handlers.spec.runtimes import RUNTIMES, TORCH_EXPORT
from tests.conftest import Exporter
from tests.parity.references import reference_for
from tests.ways import FAMILIES, KINDS_OF, OF_GRAPHS, installed

_GRAPHS = [model for model, kinds in {**KINDS_OF, **FAMILIES}.items() if TORCH_EXPORT in kinds]


@pytest.mark.long  # torch_export's own archives and test_torch_export.py ask the gate's share
@pytest.mark.parametrize("kind", installed(OF_GRAPHS))
@pytest.mark.parametrize("model", [*_GRAPHS, "mask_rcnn_dconv_fpn"])
def test_the_answers_are_default_predictors(
    model: str,
    kind: str,
    exported: Exporter,
    few_files: list[Path],
    oracle_of: Callable[[str], Oracle],
) -> None:
    things = 0
    with InProcessClient(exported(model, kind), threads=1) as client:
        facts = RUNTIMES[client.spec.runtime]
        assert (client.spec.method, facts.name) == (TORCH_EXPORT, OF_GRAPHS[kind])
        for file in few_files:
            reference = reference_for(oracle_of(model), file)
            got = client.predict(file).to_outputs()
            difference = compare(file.name, reference.outputs, got, facts.bounds)
            assert difference.misses == ()
            things += difference.detections
    assert things >= 10  # agreement on nothing would show nothing
