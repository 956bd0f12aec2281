"""The promise, for models of a user's own class: what TorchServe answers is what they answer.

One is a single-stage detector, with detectron2's postprocessing and with its own; one is a set
predictor with mask queries, which answers labels, segments and instances.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.oracle import Oracle, as_outputs
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import HeldOut, said
from tests.parity.conftest import Served
from tests.parity.references import answers, bounds_of, of_many_sizes, reference_for
from tests.ways import WITHOUT_CAFFE2, skipped

IMAGES, SIZES = 6, 6
LEAST = {"peaks": 2, "peaks_of_its_own_ending": 2, "mask_queries": 10}
"""Instances in an answer, on average."""
TRACED = tuple(kind for kind in WITHOUT_CAFFE2 if kind != "scripting")
IN_THE_GATE = (
    ("peaks", "scripting"),
    ("peaks_of_its_own_ending", "tracing"),
    ("mask_queries", "onnxruntime"),
)
CASES = [
    pytest.param(
        *case, marks=(*(() if case in IN_THE_GATE else (pytest.mark.long,)), *skipped(case[1]))
    )
    for case in (
        *(("peaks", kind) for kind in WITHOUT_CAFFE2),
        *(("peaks_of_its_own_ending", kind) for kind in TRACED),
        *(("mask_queries", kind) for kind in TRACED),
    )
]


@pytest.mark.server
@pytest.mark.parametrize(("model", "kind"), CASES)
def test_http_and_grpc_answer_as_the_model(
    model: str,
    kind: str,
    server: TorchServeProcess,
    served: Served,
    oracle_of: Callable[[str], Oracle],
    held_out: HeldOut,
    stuff_held_out: HeldOut,
) -> None:
    images = stuff_held_out if model == "mask_queries" else held_out
    files = of_many_sizes(images.images, IMAGES, SIZES)
    references = [reference_for(oracle_of(model), file) for file in files]
    name = served(model, kind)
    things = segments = 0
    for index, (reference, answer) in enumerate(answers(server, name, references)):
        for outputs in (
            answer.to_outputs(),
            as_outputs(answer.to_detectron2(sem_seg_classes=6), answer.height, answer.width),
        ):
            bounds = bounds_of(kind)
            difference = compare(reference.file.name, reference.outputs, outputs, bounds)
            assert difference.misses == ()
        things += difference.detections
        if reference.outputs.panoptic_seg is not None:
            segments += len(reference.outputs.panoptic_seg.segments)
        if index == 0:
            assert said(server.grpc.predict(name, reference.file)) == said(answer)
    assert things >= LEAST[model] * IMAGES  # agreement on nothing would show nothing
    assert segments >= (3 * IMAGES if model == "mask_queries" else 0)
