"""Models of other channels over every transport, with programs whose answers are known."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from d2serve.handlers.detector import Detector
from d2serve.handlers.errors import InvalidImage
from d2serve.handlers.requests.request import DESCRIBE, INFER, Request
from d2serve.handlers.service import Service
from d2serve.handlers.spec.image_form import FORMATS
from tests.handlers.programs import write_archive
from tests.handlers.samples import saved

FORMS = [("L", 1), ("bands", 2), ("BGR", 3), ("RGBA", 4), ("bands", 4), ("bands", 6)]


def pixels_of(channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (20, 30, channels), np.uint8)


def tensor_of(pixels: NDArray[np.uint8]) -> Request:
    shape, data = list(pixels.shape), pixels.ravel().tolist()
    tensor = {"name": "image", "datatype": "UINT8", "shape": shape, "data": data}
    return Request({"inputs": [tensor]}, kind=INFER)


def parsed(service: Service, request: Request, status: int = 200) -> Any:
    reply = service.reply(request)
    assert reply.status == status, reply.body
    return json.loads(reply.body)


@pytest.mark.parametrize(("image_format", "channels"), FORMS)
def test_the_same_pixels_have_the_same_answer_however_they_come(
    image_format: str, channels: int, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path, image_format=image_format, channels=channels)
    pixels = pixels_of(channels)
    mean = pytest.approx(pixels.mean() / 255, abs=1e-6)
    with Detector.open(archive) as detector:
        detector.warm_up()
        (found,) = detector([pixels])
    assert found.instances is not None
    assert found.instances.scores[0] == mean
    service = Service.open(archive)
    assert parsed(service, Request(pixels))["instances"][0]["score"] == mean
    tensors = {each["name"]: each for each in parsed(service, tensor_of(pixels))["outputs"]}
    assert tensors["scores"]["data"][0] == mean
    told = parsed(service, Request(kind=DESCRIBE))
    assert (told["image_format"], told["channels"]) == (image_format, channels)
    assert told["inputs"][-1]["shape"] == [-1, -1, channels]
    drawn = service.reply(Request(pixels, {"draw": "png"}))
    assert np.asarray(Image.open(io.BytesIO(drawn.body))).shape == (20, 30, 3)
    if channels <= 4:
        file = saved(Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels), "PNG")
        assert parsed(service, Request(file))["instances"][0]["score"] == mean


@pytest.mark.parametrize(("image_format", "channels"), FORMS)
def test_tensors_and_arrays_of_other_channels_are_refused(
    image_format: str, channels: int, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path, image_format=image_format, channels=channels)
    service = Service.open(archive)
    wrong = pixels_of(channels + 1)
    message = parsed(service, tensor_of(wrong), 400)["error"]
    assert f"of shape [20, 30, {channels + 1}]" in message
    assert f"[height, width, {channels}]" in message
    assert parsed(service, Request(wrong), 400)["error"]["code"] == "invalid_image"
    with Detector.open(archive) as detector, pytest.raises(InvalidImage, match=str(channels)):
        detector([wrong])


def test_every_format_is_tried_here() -> None:
    assert {name for name, _ in FORMS} | {"RGB"} == set(FORMATS)
