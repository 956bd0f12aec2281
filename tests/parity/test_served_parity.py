"""The promise: what TorchServe answers for a file is what DefaultPredictor answers for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.oracle import Oracle
from d2serve.handlers.spec.bounds import TORCHSCRIPT_BOUNDS
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import METHODS, HeldOut, said
from tests.parity.conftest import Served
from tests.parity.references import Reference, answers, bounds_of, reference_for
from tests.ways import KINDS_OF, tiered

IMAGES = 52
# The same model answers over gRPC: what is compared there is the way of the answer.
OVER_GRPC_EACH = 13

References = Callable[[str], list[Reference]]


@pytest.fixture(scope="module")
def references(held_out: HeldOut, oracle_of: Callable[[str], Oracle]) -> References:
    """DefaultPredictor's answers of a model to the images."""
    made: dict[str, list[Reference]] = {}

    def make(model: str) -> list[Reference]:
        if model not in made:
            made.clear()  # its masks are large, and models come one after another
            files = held_out.images[:IMAGES]
            made[model] = [reference_for(oracle_of(model), file) for file in files]
        return made[model]

    return make


@pytest.mark.server  # with the comparisons below, whose images these are
def test_the_images_are_of_at_least_eight_sizes(held_out: HeldOut) -> None:
    sizes = {Image.open(file).size for file in held_out.images[:IMAGES]}
    assert len(sizes) >= 8


@pytest.mark.server
@pytest.mark.parametrize(
    ("model", "kind"), tiered((m, k) for m, kinds in KINDS_OF.items() for k in kinds)
)
def test_http_and_grpc_answer_as_default_predictor(
    model: str, kind: str, server: TorchServeProcess, served: Served, references: References
) -> None:
    name = served(model, kind)
    instances = 0
    for index, (reference, answer) in enumerate(answers(server, name, references(model))):
        got = answer.to_outputs()
        difference = compare(reference.file.name, reference.outputs, got, bounds_of(kind))
        assert difference.misses == ()
        assert kind not in METHODS or difference.masks_differing == 0
        instances += difference.detections
        if index % OVER_GRPC_EACH == 0:
            assert said(server.grpc.predict(name, reference.file)) == said(answer)
    assert instances >= 2 * IMAGES  # many detections: agreement on nothing would show nothing
    assert answer.raw["model"] == name


@pytest.mark.server
@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tiff", "gif"])
def test_every_image_format_is_answered_as_default_predictor(
    suffix: str,
    server: TorchServeProcess,
    served: Served,
    held_out: HeldOut,
    oracle_of: Callable[[str], Oracle],
    tmp_path: Path,
) -> None:
    file = tmp_path / f"image.{suffix}"
    Image.open(held_out.images[3]).save(file)
    expected = reference_for(oracle_of("mask_rcnn_fpn"), file).outputs
    reply = server.http.predict(served("mask_rcnn_fpn", "tracing"), file)
    difference = compare(file.name, expected, reply.to_outputs(), TORCHSCRIPT_BOUNDS)
    assert difference.misses == ()
    assert difference.detections > 0


@pytest.mark.server
def test_exif_orientation_is_applied_as_read_image_does(
    server: TorchServeProcess,
    served: Served,
    held_out: HeldOut,
    oracle_of: Callable[[str], Oracle],
    tmp_path: Path,
) -> None:
    image = Image.open(held_out.images[3])
    exif = image.getexif()
    exif[0x0112] = 6
    file = tmp_path / "turned.jpg"
    image.save(file, exif=exif, quality=95)
    expected = reference_for(oracle_of("mask_rcnn_fpn"), file).outputs
    reply = server.http.predict(served("mask_rcnn_fpn", "tracing"), file)
    assert (reply.raw["image"]["width"], reply.raw["image"]["height"]) == image.size[::-1]
    difference = compare(file.name, expected, reply.to_outputs(), TORCHSCRIPT_BOUNDS)
    assert difference.misses == ()
    assert difference.detections > 0
