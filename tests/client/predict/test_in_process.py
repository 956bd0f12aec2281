"""An archive in this process answers as a client of a server does: the same methods and errors."""

from __future__ import annotations

import inspect
import io
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d2serve.client.errors import (
    ArchiveRefused,
    InvalidImage,
    InvalidInput,
    InvalidOption,
    ModelFailed,
)
from d2serve.client.predict.blocking import BlockingClient
from d2serve.client.predict.in_process import InProcessClient, LoadSettings
from d2serve.handlers.detector import Detector
from d2serve.handlers.requests.request import Request
from d2serve.handlers.service import Service
from tests.client.answering_archives import answering_archive

COLOURS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)


def png(pixels: Any) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return answering_archive(tmp_path_factory.mktemp("archive") / "shapes.mar")


@pytest.fixture(scope="module")
def client(archive: Path) -> Iterator[InProcessClient]:
    with InProcessClient(archive, threads=1) as opened:
        yield opened


def test_an_answer_has_the_bytes_of_the_service(client: InProcessClient, archive: Path) -> None:
    expected = Service.open(archive).reply(Request(png(COLOURS), {"score_thresh": "0.1"}))
    assert client.reply(png(COLOURS), {"score_thresh": "0.1"}).body == expected.body
    predicted = client.predict(png(COLOURS), score_thresh=0.1)
    assert predicted.raw == json.loads(expected.body)
    assert (predicted.model, predicted.version) == ("shapes", "2.0")
    (circle,) = predicted.instances
    assert (circle.label(), circle.bbox) == ("circle", (0, 0, 8, 6))
    assert circle.score == pytest.approx(COLOURS.mean() / 255, abs=1e-5)
    assert circle.mask().sum() == 48


def test_every_kind_of_image_is_the_same_image(client: InProcessClient, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png(COLOURS))
    expected = client.predict(png(COLOURS)).raw
    assert expected["instances"]
    bgr = COLOURS[:, :, ::-1]
    for image in (file, str(file), bgr, np.ascontiguousarray(bgr), Image.fromarray(COLOURS)):
        assert client.predict(image).raw == expected
    assert client.predict(COLOURS, array_format="RGB").raw == expected


def test_a_model_of_grey_takes_arrays_as_a_server_does(tmp_path: Path) -> None:
    """Colours go the way of a file, of which grey is made."""
    file = answering_archive(tmp_path / "grey.mar", image_format="L", channels=1)
    with InProcessClient(file) as client:
        sent = client._body(COLOURS, "BGR")
        with pytest.raises(ModelFailed):  # the program takes colours, whatever its spec says
            client.predict(COLOURS)
    assert isinstance(sent, bytes)
    with Image.open(io.BytesIO(sent)) as opened:
        assert np.array_equal(np.asarray(opened), COLOURS[:, :, ::-1])


def test_a_picture_is_drawn(client: InProcessClient) -> None:
    picture = client.predict_picture(np.zeros((40, 60, 3), np.uint8), format="jpeg")
    with Image.open(io.BytesIO(picture)) as opened:
        assert (opened.format, opened.size) == ("JPEG", (60, 40))


@pytest.mark.parametrize(
    ("image", "options", "kind", "told"),
    [
        (b"\x89PNG\r\n\x1a\n", {}, InvalidImage, "The request was rejected (invalid_image): "),
        (b"", {}, InvalidInput, "is empty"),
        (png(COLOURS), {"score_thresh": 0.01}, InvalidOption, "(invalid_option)"),
        (png(COLOURS), {"classes": ["dog"]}, InvalidOption, "dog"),
        (png(COLOURS), {"score_thresh": 2}, InvalidInput, "from 0 to 1"),
        (COLOURS.astype(np.float32), {}, InvalidInput, "float32"),
    ],
)
def test_a_failure_is_the_error_of_every_client(
    client: InProcessClient, image: Any, options: Any, kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind) as raised:
        client.predict(image, **options)
    assert told in str(raised.value)
    assert client.predict(png(COLOURS)).instances


def test_an_error_has_its_code_and_status(client: InProcessClient) -> None:
    reply = client.reply(b"")
    assert (reply.status, reply.code) == (400, "empty_request")
    assert json.loads(reply.body)["error"]["code"] == "empty_request"
    with pytest.raises(InvalidImage) as raised:
        client.predict(b"BM")
    assert (raised.value.status, raised.value.code) == (400, "invalid_image")


def test_threads_share_it(client: InProcessClient) -> None:
    images = [np.full((9, 9 + n, 3), 10 * n, np.uint8) for n in range(1, 20)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(client.predict, images))
    assert [each.width for each in answers] == [9 + n for n in range(1, 20)]
    assert [round(each.instances[0].score * 255) for each in answers] == [
        10 * n for n in range(1, 20)
    ]


def test_it_takes_what_the_other_clients_take() -> None:
    """But the model, which is the archive's, and its version."""
    for method in ("predict", "predict_picture"):
        other = inspect.signature(getattr(BlockingClient, method)).parameters
        own = inspect.signature(getattr(InProcessClient, method)).parameters
        assert list(own) == [name for name in other if name not in ("model", "version")]
        assert [own[name].default for name in own] == [other[name].default for name in own]
    loaded = inspect.signature(Detector.open).parameters
    assert set(LoadSettings.__annotations__) == set(loaded) - {"path"}


def test_a_folder_answers_and_what_is_no_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "folder")
    with InProcessClient(tmp_path / "folder") as client:
        assert client.predict(COLOURS).instances
    for broken, told in {"none.mar": "There is no", "folder/h.py": "is no archive"}.items():
        with pytest.raises(ArchiveRefused, match=told):
            InProcessClient(tmp_path / broken)
