"""The promise: what TorchServe answers for a file is what DefaultPredictor answers for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image

from d2serve.client.server import TorchServeProcess
from d2serve.export.bounds import TORCHSCRIPT_BOUNDS, bounds_for
from d2serve.export.comparison import compare
from d2serve.export.oracle import Oracle
from d2serve.export.replies import outputs_of
from d2serve.handlers.detections import Outputs
from d2serve.handlers.model_spec import TORCHSCRIPT
from tests.conftest import KINDS, MODELS, RUNTIMES, HeldOut

IMAGES = 52


@pytest.fixture(scope="module")
def references(
    held_out: HeldOut, oracle_of: Callable[[str], Oracle]
) -> Callable[[str], list[Outputs]]:
    """DefaultPredictor's answers to the images, as read by detectron2's own read_image."""
    made: dict[str, list[Outputs]] = {}

    def make(model: str) -> list[Outputs]:
        if model not in made:
            oracle = oracle_of(model)
            arrays = [read_image(str(file), "BGR") for file in held_out.images[:IMAGES]]
            made[model] = [oracle.answer(bgr[:, :, ::-1]) for bgr in arrays]
        return made[model]

    return make


def test_the_images_are_of_at_least_eight_sizes(held_out: HeldOut) -> None:
    sizes = {Image.open(file).size for file in held_out.images[:IMAGES]}
    assert len(sizes) >= 8


@pytest.mark.server
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_http_and_grpc_answer_as_default_predictor(
    model: str,
    kind: str,
    server: TorchServeProcess,
    held_out: HeldOut,
    references: Callable[[str], list[Outputs]],
) -> None:
    instances = 0
    bounds = bounds_for(kind if kind in RUNTIMES else TORCHSCRIPT)
    for index, (file, expected) in enumerate(zip(held_out.images[:IMAGES], references(model))):
        over_http = server.http.predict(f"{model}_{kind}", file)
        difference = compare(file.name, expected, outputs_of(over_http.raw), bounds)
        assert difference.misses == ()
        assert kind in RUNTIMES or difference.masks_differing == 0
        instances += difference.detections
        if index % 4 == 0:
            assert server.grpc.predict(f"{model}_{kind}", file).raw == over_http.raw
    assert instances >= 2 * IMAGES  # many detections: agreement on nothing would prove nothing
    assert over_http.raw["model"] == f"{model}_{kind}"


@pytest.mark.server
@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tiff", "gif"])
def test_every_image_format_is_answered_as_default_predictor(
    suffix: str,
    server: TorchServeProcess,
    held_out: HeldOut,
    oracle_of: Callable[[str], Oracle],
    tmp_path: Path,
) -> None:
    file = tmp_path / f"image.{suffix}"
    Image.open(held_out.images[3]).save(file)
    expected = oracle_of("mask_rcnn_fpn").answer(read_image(str(file), "BGR")[:, :, ::-1])
    reply = server.http.predict("mask_rcnn_fpn_tracing", file)
    difference = compare(file.name, expected, outputs_of(reply.raw), TORCHSCRIPT_BOUNDS)
    assert difference.misses == ()
    assert difference.detections > 0


@pytest.mark.server
def test_exif_orientation_is_applied_as_read_image_does(
    server: TorchServeProcess,
    held_out: HeldOut,
    oracle_of: Callable[[str], Oracle],
    tmp_path: Path,
) -> None:
    image = Image.open(held_out.images[3])
    exif = image.getexif()
    exif[0x0112] = 6
    file = tmp_path / "turned.jpg"
    image.save(file, exif=exif, quality=95)
    expected = oracle_of("mask_rcnn_fpn").answer(read_image(str(file), "BGR")[:, :, ::-1])
    reply = server.http.predict("mask_rcnn_fpn_tracing", file)
    assert (reply.raw["image"]["width"], reply.raw["image"]["height"]) == image.size[::-1]
    difference = compare(file.name, expected, outputs_of(reply.raw), TORCHSCRIPT_BOUNDS)
    assert difference.misses == ()
    assert difference.detections > 0
