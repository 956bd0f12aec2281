"""The promise, in C++: what ``d2serve_predict`` prints for a file is what DefaultPredictor answers.

Beside it stands the Python library on the same archive, with the runtime's own convolutions, which
are what C++ has: where both run the same program on the same library, their replies differ by
rounding at most, and their masks not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2serve.client.results.prediction import parse_prediction
from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.oracle import Oracle
from d2serve.export.proof.reference import count_of
from d2serve.export.reading.config_loading import load_config
from d2serve.handlers.detector import Detector
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.replies.encoding import encode
from d2serve.handlers.spec.convolution import DIRECT
from d2serve.handlers.spec.runtimes import ONNXRUNTIME, OPENVINO, SCRIPTING
from tests.conftest import FAMILIES, METHODS, MODELS, STUFF_MODELS, Exporter, HeldOut
from tests.cpp.building import run
from tests.cpp.replying import differences
from tests.exports import source_of
from tests.parity.references import Reference, bounds_of, of_many_sizes, reference_for

IMAGES, SIZES = 5, 5
"""Beside them each model is asked about an image with nothing on it."""

ENGINES = (*METHODS, ONNXRUNTIME, OPENVINO)
"""Kinds of archives that C++ has an engine for."""
WAYS = {
    **dict.fromkeys(MODELS, ENGINES),
    **FAMILIES,
    "peaks": ENGINES,
    "peaks_of_its_own_ending": tuple(kind for kind in ENGINES if kind != SCRIPTING),
    "mask_queries": tuple(kind for kind in ENGINES if kind != SCRIPTING),
}
"""Those after FAMILIES are of a user's own class: with fields of their own, or with their own
postprocessing, which is traced only."""
IN_THE_GATE = {
    ("mask_rcnn_fpn", "scripting"),
    ("mask_rcnn_fpn", "openvino"),
    ("faster_rcnn_fpn", "onnxruntime"),
    ("keypoint_rcnn_fpn", "scripting"),
    ("retinanet", "openvino"),
    ("cascade_mask_rcnn_fpn", "openvino"),
    ("panoptic_fpn", "scripting"),
    ("semantic_fpn", "tracing"),
    ("rpn_fpn", "scripting"),
    ("fcos", "tracing"),
    ("panoptic_deeplab", "tracing"),
    ("rotated_faster_rcnn_fpn", "scripting"),
    ("mask_queries", "onnxruntime"),
    ("peaks_of_its_own_ending", "tracing"),
}
"""Every output and both engines, of archives that `make test` exports anyway."""
LEAST = {"semantic_fpn": 2, "deeplab_v3plus": 2, "rpn_fpn": 100}
"""Things in an answer, on average: instances; else proposals, or labels."""
OF_STUFF = (*STUFF_MODELS, "mask_queries")
ALWAYS_FINDS = (
    *(*OF_STUFF, "rpn_fpn"),
    *("cascade_mask_rcnn_fpn", "mvitv2_cascade", "rotated_faster_rcnn_fpn"),
)
"""Models that label every pixel or propose regions whatever there is, and those that eager
detectron2 finds instances with even on grey alone."""

CASES = [
    pytest.param(model, kind, marks=() if (model, kind) in IN_THE_GATE else (pytest.mark.long,))
    for model, kinds in WAYS.items()
    for kind in kinds
    if kind in ENGINES
]

References = Callable[[str], list[Reference]]


@pytest.fixture(scope="module")
def references(
    held_out: HeldOut, stuff_held_out: HeldOut, tmp_path_factory: pytest.TempPathFactory
) -> References:
    """Eager detectron2's answers of a model; the last is to an image with nothing on it."""
    made: dict[str, list[Reference]] = {}
    blank = tmp_path_factory.mktemp("blank") / "blank.png"
    Image.fromarray(np.full((120, 168, 3), 127, np.uint8)).save(blank)

    def make(model: str) -> list[Reference]:
        if model not in made:
            split = stuff_held_out if model in OF_STUFF else held_out
            files = [*of_many_sizes(split.images, IMAGES, SIZES), blank]
            oracle = Oracle(load_config(source_of(model)))
            made[model] = [reference_for(oracle, file) for file in files]
        return made[model]

    return make


def predicted(build: Path, archive: Path, files: Sequence[Path]) -> Iterator[str]:
    """What the command prints, a line for each file."""
    command = build / "bin" / "d2serve_predict"
    yield from run(command, "--threads", "1", archive, *files).splitlines()


def asked(detector: Detector, file: Path) -> Outputs:
    """What the Python library answers about a file."""
    with Image.open(file) as image:
        return detector([np.asarray(image.convert("RGB"))])[0]


@pytest.mark.export
@pytest.mark.parametrize(("model", "kind"), CASES)
def test_the_command_answers_as_default_predictor(
    model: str, kind: str, cpp_build: Path, exported: Exporter, references: References
) -> None:
    archive = exported(model, kind)
    expected = references(model)
    lines = list(predicted(cpp_build, archive, [each.file for each in expected]))
    assert len(lines) == len(expected)
    bounds = bounds_of(kind)
    with Detector.open(archive, threads=1, convolution=DIRECT) as detector:
        spec = detector.spec
        things = 0
        for reference, line in zip(expected, lines):
            got = parse_prediction(line).to_outputs()
            agreement = partial(compare, reference.file.name, got=got, bounds=bounds)
            difference = agreement(reference.outputs)
            assert difference.misses == ()
            things += difference.detections
            python = asked(detector, reference.file)
            beside = agreement(python)
            assert beside.misses == ()
            if kind in METHODS:
                assert difference.masks_differing == 0
            if kind != ONNXRUNTIME:  # of which each runs it on a library of its own
                assert beside.masks_differing == beside.labels_differing == 0
                reply = encode(python, spec, archive.stem, "1.0")
                assert differences(json.loads(reply), json.loads(line), within=1e-3) == []
    assert things >= LEAST.get(model, 2) * IMAGES  # agreement on nothing would show nothing
    if model not in ALWAYS_FINDS:
        assert count_of(expected[-1].outputs) == 0
