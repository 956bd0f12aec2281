"""With Winograd's convolutions in its program an archive answers as DefaultPredictor does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2serve.client.predict.in_process import InProcessClient
from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.oracle import Oracle
from d2serve.handlers.spec.convolution import DIRECT, WINOGRAD, is_automatic
from d2serve.handlers.spec.runtimes import RUNTIMES
from d2serve.kernels.library import library
from tests.conftest import Exporter, HeldOut
from tests.parity.references import of_many_sizes, reference_for
from tests.ways import MODELS, tiered

pytestmark = [
    pytest.mark.export,
    pytest.mark.skipif(library() is None, reason="no native kernels are installed"),
]
KINDS = ("tracing", "scripting", "onnxruntime", "openvino")
IMAGES, SIZES = 6, 6


@pytest.mark.parametrize(("model", "kind"), tiered([(m, k) for m in MODELS for k in KINDS]))
def test_the_answers_are_default_predictors(
    model: str,
    kind: str,
    exported: Exporter,
    held_out: HeldOut,
    oracle_of: Callable[[str], Oracle],
    tmp_path: Path,
) -> None:
    nothing = tmp_path / "nothing.png"
    Image.fromarray(np.full((90, 70, 3), 128, np.uint8)).save(nothing)
    archive = exported(model, kind)
    answers: dict[str, list[object]] = {WINOGRAD: [], DIRECT: []}
    things = 0
    for convolution, found in answers.items():
        with InProcessClient(archive, threads=1, convolution=convolution) as client:
            spec = client.spec
            facts = RUNTIMES[spec.runtime]
            bounds = facts.winograd if convolution == WINOGRAD else facts.bounds
            for file in [*of_many_sizes(held_out.images, IMAGES, SIZES), nothing]:
                reference = reference_for(oracle_of(model), file)
                got = client.predict(file).to_outputs()
                difference = compare(file.name, reference.outputs, got, bounds)
                assert difference.misses == ()
                things += difference.detections
                found.append(got.scores)
    assert things >= 2 * 2 * IMAGES  # agreement on nothing would show nothing
    assert is_automatic(spec.runtime, spec.verification) == facts.takes_winograd_itself
    assert any(map(np.any, map(np.not_equal, *answers.values())))  # another way of computing it
