"""Models of grey, of four bands and of six are exported, served, and answer as eager detectron2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from d2serve.client.errors import InvalidImage
from d2serve.export.pipeline import export
from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.image_files import Pixels, read_image_file
from d2serve.export.request import ExportRequest, Progress
from d2serve.handlers.detector import Detector
from d2serve.handlers.requests.bands import bands_of
from d2serve.handlers.spec.image_form import COLOUR, GREY, ImageForm
from d2serve.handlers.spec.runtimes import RUNTIMES, TORCHSCRIPT
from d2serve.server.torchserve.process import TorchServeProcess
from examples.shapes.generate import generate_split
from tests.channels import coloured, with_channels
from tests.conftest import config_of, said
from tests.parity.references import bounds_of
from tests.ways import METHODS

CHANNELS = (1, 4, 6)
SERVED = {1: "scripting", 4: "onnxruntime", 6: "tracing"}
OTHERS = [
    (1, "tracing"),
    (1, "onnxruntime"),
    (1, "openvino"),
    (4, "tracing"),
    (4, "scripting"),
    (4, "openvino"),
    (6, "scripting"),
    (6, "onnxruntime"),
    (6, "openvino"),
]
QUIET = Progress(lambda _step, _parts: None, lambda: None)
# Held-out images in which the model of grey finds many.
MANY = (1, 6, 8)


@dataclass(frozen=True)
class Variants:
    """Models of other channels, with the images they are asked about."""

    folder: Path
    pictures: list[Path]

    def source(self, channels: int) -> ConfigSource:
        return ConfigSource(str(with_channels(self.folder, channels)))

    def oracle(self, channels: int) -> Oracle:
        if channels not in self._oracles:
            self._oracles[channels] = Oracle(load_config(self.source(channels)))
        return self._oracles[channels]

    @cached_property
    def _oracles(self) -> dict[int, Oracle]:
        return {}

    def images(self, channels: int) -> list[Pixels]:
        """Of that many channels; a fourth band that differs from the colours' grey."""
        made = []
        for file in self.pictures:
            colours = read_image_file(file, COLOUR)
            grey = bands_of(Image.fromarray(colours), ImageForm(GREY, 1))
            others = [255 - grey, grey[::-1], grey // 2][: max(channels - 3, 0)]
            made.append(grey if channels == 1 else np.concatenate([colours, *others], axis=2))
        return made

    def export(self, channels: int, kind: str) -> Path:
        """The archive, verified on the first image."""
        sample = self.folder / f"sample_{channels}.npy"
        np.save(sample, self.images(channels)[0])
        runtime = TORCHSCRIPT if kind in METHODS else kind
        request = ExportRequest(
            self.source(channels),
            kind if kind in METHODS else "tracing",
            f"channels_{channels}_{kind}",
            output=self.folder,
            format=RUNTIMES[runtime].format,
            runtime=runtime,
            sample_image=sample,
            class_names=("circle", "rectangle", "triangle"),
        )
        result = export(request, QUIET)
        assert (result.spec.channels, result.verification.detections) > (0, 20)
        return result.archive


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Variants:
    folder = tmp_path_factory.mktemp("channels")
    generate_split(folder / "heldout", "heldout", max(MANY) + 1)
    files = sorted((folder / "heldout" / "images").glob("*.jpg"))
    return Variants(folder, [files[index] for index in MANY])


@pytest.fixture(scope="module")
def server(variants: Variants) -> Iterator[TorchServeProcess]:
    """All three in one server."""
    models = {f"of_{n}": variants.export(n, kind).name for n, kind in SERVED.items()}
    store = variants.folder
    with TorchServeProcess(models, model_store=store, token_auth=False) as running:
        yield running


def infer(server: TorchServeProcess, name: str, pixels: NDArray[np.uint8]) -> httpx.Response:
    """What an Open Inference Protocol client gets for pixels."""
    tensor = {
        "name": "image",
        "datatype": "UINT8",
        "shape": list(pixels.shape),
        "data": pixels.ravel().tolist(),
    }
    url = f"{server.inference_address}/v2/models/{name}/infer"
    body = json.dumps({"inputs": [tensor]})
    return httpx.post(url, content=body, trust_env=False, timeout=120)


def test_grey_finds_what_colours_find_on_the_same_grey(variants: Variants) -> None:
    """The reference itself, held to a model that nobody has changed."""
    of_colours = Oracle(load_config(ConfigSource(str(config_of("mask_rcnn_fpn")))))
    found = 0
    for image in variants.images(1):
        expected, got = of_colours.answer(coloured(image)), variants.oracle(1).answer(image)
        difference = compare("grey", expected, got, bounds_of("onnxruntime"))
        assert difference.misses == ()
        found += difference.detections
    assert found > 60


@pytest.mark.export
@pytest.mark.server
@pytest.mark.parametrize("channels", CHANNELS)
def test_a_file_is_answered_as_eager_detectron2_answers_its_bands(
    channels: int, server: TorchServeProcess, variants: Variants, tmp_path: Path
) -> None:
    found = 0
    for index, image in enumerate(variants.images(channels)):
        file = tmp_path / f"image.{'tiff' if channels > 4 else ('png', 'tiff')[index % 2]}"
        if channels > 4:
            tifffile.imwrite(file, image, photometric="minisblack", planarconfig="contig")
        else:
            Image.fromarray(image[:, :, 0] if channels == 1 else image).save(file)
        got = server.http.predict(f"of_{channels}", file)
        expected = variants.oracle(channels).answer(image)
        difference = compare(str(index), expected, got.to_outputs(), bounds_of(SERVED[channels]))
        assert difference.misses == ()
        found += difference.detections
        if channels <= 4:
            of_array = server.grpc.predict(f"of_{channels}", image, array_format="bands")
            assert said(of_array)["instances"] == got.raw["instances"]
    assert found > 20


@pytest.mark.export
@pytest.mark.server
@pytest.mark.parametrize("channels", CHANNELS)
def test_a_tensor_is_answered_as_eager_detectron2_answers_it(
    channels: int, server: TorchServeProcess, variants: Variants
) -> None:
    image = variants.images(channels)[1]
    response = infer(server, f"of_{channels}", image)
    assert response.status_code == 200, response.text
    got = {each["name"]: np.array(each["data"]) for each in response.json()["outputs"]}
    expected = variants.oracle(channels).answer(image).instances
    assert expected is not None
    assert len(expected) > 5
    bounds = bounds_of(SERVED[channels])
    boxes = got["boxes"].reshape(-1, 4)
    np.testing.assert_allclose(boxes, expected.boxes, rtol=0, atol=bounds.box_px)
    np.testing.assert_allclose(got["scores"], expected.scores, rtol=0, atol=bounds.score)
    np.testing.assert_array_equal(got["classes"], expected.classes)


@pytest.mark.export
@pytest.mark.server
def test_a_colour_photo_is_read_as_grey_by_a_model_of_grey(
    server: TorchServeProcess, variants: Variants
) -> None:
    """As ``read_image(file, "L")`` reads it."""
    file = variants.pictures[0]
    got = server.http.predict("of_1", file).to_outputs()
    expected = variants.oracle(1).answer(variants.images(1)[0])
    assert compare("photo", expected, got, bounds_of(SERVED[1])).misses == ()


@pytest.mark.export
@pytest.mark.server
def test_what_does_not_fit_is_refused_with_what_was_expected(
    server: TorchServeProcess, variants: Variants
) -> None:
    photo = variants.pictures[0]
    with pytest.raises(InvalidImage, match=r"3 bands \(RGB\), expected 4,"):
        server.http.predict("of_4", photo)
    with pytest.raises(InvalidImage, match=r"hold 4 bands at most.*Open Inference Protocol"):
        server.http.predict("of_6", photo)
    wrong = infer(server, "of_4", variants.images(6)[0])
    assert wrong.status_code == 400
    assert "expected pixels of one image, [height, width, 4]" in wrong.json()["error"]


@pytest.mark.export
@pytest.mark.server
@pytest.mark.parametrize("channels", CHANNELS)
def test_the_metadata_name_the_channels_and_pictures_are_drawn(
    channels: int, server: TorchServeProcess, variants: Variants
) -> None:
    url = f"{server.management_address}/models/of_{channels}?customized=true"
    (described,) = httpx.get(url, trust_env=False, timeout=60).json()
    said: Any = described["customizedMetadata"]
    said = json.loads(said) if isinstance(said, str) else said
    assert said["channels"] == channels
    assert {"name": "image", "datatype": "UINT8", "shape": [-1, -1, channels]} in said["inputs"]
    if channels < 6:
        image = variants.images(channels)[0]
        drawn = server.http.predict_picture(f"of_{channels}", image, array_format="bands")
        assert drawn.startswith(b"\x89PNG")


@pytest.mark.export
@pytest.mark.long
@pytest.mark.parametrize(("channels", "kind"), OTHERS)
def test_every_other_way(channels: int, kind: str, variants: Variants) -> None:
    """The export itself compares with eager detectron2; here its library is asked once more."""
    archive = variants.export(channels, kind)
    found = 0
    with Detector.open(archive, threads=1) as detector:
        for image in variants.images(channels):
            (got,) = detector([image])
            expected = variants.oracle(channels).answer(image)
            difference = compare(kind, expected, got, bounds_of(kind))
            assert difference.misses == ()
            found += difference.detections
    assert found > 20
