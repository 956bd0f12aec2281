"""Every option, the picture and every code of error, over every protocol, from the real handler."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d2serve.client.connection.deadlines import Deadlines
from d2serve.client.errors import (
    BY_CODE,
    InvalidOption,
    MalformedReply,
    ModelFailed,
    RequestRejected,
    ServerFailed,
)
from d2serve.client.predict.grpc_client import D2ServeGrpcClient
from d2serve.client.results.prediction import PolygonMask, Prediction, RunLengthMask
from d2serve.handlers.errors import RequestError
from d2serve.server.torchserve.process import TorchServeProcess
from tests.client.blocking import AnyClient, BlockingAsyncClient
from tests.client.panoptic_archive import UNLUCKY, write_panoptic_archive
from tests.handlers.samples import saved

pytestmark = pytest.mark.server

HEIGHT, WIDTH = 20, 30


def grey(value: int) -> bytes:
    return saved(Image.new("RGB", (WIDTH, HEIGHT), (value, value, value)), "PNG")


def noise() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    return saved(Image.fromarray(pixels), "PNG")


def in_pieces() -> bytes:
    """A PNG of more chunks than any software writes."""
    whole, header_ends = grey(51), 33
    return whole[:header_ends] + struct.pack(">L4sL", 0, b"teXt", 0) * 100_001 + whole[header_ends:]


IMAGE = grey(51)


@pytest.fixture(scope="module")
def shapes(
    server: TorchServeProcess, archives: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TorchServeProcess]:
    write_panoptic_archive(tmp_path_factory.mktemp("program"), archives, "shapes")
    server.management.register("shapes.mar")
    server.management.wait_ready("shapes", timeout=120)
    yield server
    server.management.unregister("shapes")


@pytest.fixture(params=["http", "async", "grpc"])
def client(request: pytest.FixtureRequest, shapes: TorchServeProcess) -> AnyClient:
    if request.param == "async":
        return BlockingAsyncClient(shapes.inference_address, key_file=shapes.key_file)
    return shapes.http if request.param == "http" else shapes.grpc


def names(prediction: Prediction) -> list[str | None]:
    return [each.category_name for each in prediction.instances]


def test_options_that_choose_instances(client: AnyClient) -> None:
    circle, square = "circle", "square, or so"
    answered = client.predict("shapes", IMAGE)
    assert answered.request_id
    assert answered.request_id == answered.raw["request_id"]
    assert names(answered) == [circle, square]
    assert names(client.predict("shapes", IMAGE, score_thresh=0.6)) == [circle]
    assert names(client.predict("shapes", IMAGE, score_thresh=0.95)) == []
    assert names(client.predict("shapes", IMAGE, max_detections=1)) == [circle]
    wanted: list[Sequence[str | int]] = [[square], [1], ("1",), [1, "[2]"]]
    for classes in wanted:
        assert names(client.predict("shapes", IMAGE, classes=classes)) == [square]
    assert names(client.predict("shapes", IMAGE, classes=[1, circle])) == [circle, square]


def test_masks_in_every_form(client: AnyClient) -> None:
    exact = client.predict("shapes", IMAGE)
    outlined = client.predict("shapes", IMAGE, masks="polygon")
    for one, other in zip(exact.instances, outlined.instances):
        kinds = [type(each.segmentation) for each in (one, other)]
        assert kinds == [RunLengthMask, PolygonMask]
        assert one.polygons is None
        np.testing.assert_array_equal(other.mask(), one.mask())
        assert one.mask().sum() == HEIGHT * WIDTH // 4
    (outline,) = outlined.instances[0].polygons or ()
    assert list(outline) == [0, 0, 15, 0, 15, 10, 0, 10]
    without = client.predict("shapes", IMAGE, masks="none")
    assert names(without) == names(exact)
    assert [each.segmentation for each in without.instances] == [None, None]


def test_label_maps_in_either_form(client: AnyClient) -> None:
    halves = np.full((HEIGHT, WIDTH), 9, np.uint8)
    halves[:, 12:] = 255
    image = saved(Image.fromarray(halves), "PNG")
    packed, runs = (client.predict("shapes", image, sem_seg=each) for each in ("png", "rle"))
    assert packed.sem_seg is not None
    assert runs.sem_seg is not None
    assert (packed.sem_seg.png is None, runs.sem_seg.png is None) == (False, True)
    np.testing.assert_array_equal(packed.sem_seg.label_map(), runs.sem_seg.label_map())
    assert set(np.unique(runs.sem_seg.label_map())) == {0, 1}


def test_what_a_model_answers_of_its_own_in_every_form(client: AnyClient) -> None:
    for form in ("json", "base64"):
        answered = client.predict("shapes", IMAGE, extra=form)
        first, second = (each.extra for each in answered.instances)
        np.testing.assert_array_equal(first["embedding"], np.array([0.1, 2], np.float32))
        assert (second["sure"], second["rank"]) == (False, 300)
        assert answered.extra["brightness"] == 51
        assert answered.extra["levels"].dtype == np.uint8
        found = answered.to_detectron2()
        assert found["instances"].rank.tolist() == [7, 300]
        assert str(found["half"].dtype) == "torch.float16"
        (alone,) = client.predict("shapes", IMAGE, extra=form, classes=[1]).instances
        assert alone.extra["rank"] == 300
    without = client.predict("shapes", IMAGE, extra="none")
    assert (without.extra, without.extra_fields, without.instances[0].extra) == ({}, (), {})


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_the_picture(client: AnyClient, kind: str) -> None:
    drawn = client.predict_picture("shapes", IMAGE, format=kind)
    with Image.open(io.BytesIO(drawn)) as picture:
        assert picture.format == kind.upper()
        assert picture.size == (WIDTH, HEIGHT)
    fewer = client.predict_picture("shapes", IMAGE, format=kind, classes=["circle"], masks="none")
    assert fewer != drawn


def test_a_reply_that_is_no_picture(client: AnyClient) -> None:
    """As of an archive that knows no pictures."""
    with pytest.raises(MalformedReply, match="no PNG file"):
        client.predict_picture("canned", IMAGE)


FAULTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "empty_request": (b"", {}),
    "invalid_image": (IMAGE[:60], {}),
    "invalid_option": (IMAGE, {"score_thresh": 0.1}),
    "unsupported_image_format": (b"bad", {}),
    "image_too_large": (saved(Image.new("L", (101, 100)), "PNG"), {}),
    "image_too_slow": (in_pieces(), {}),
    "reply_too_large": (noise(), {"sem_seg": "rle"}),
    "model_failed": (grey(UNLUCKY), {}),
    "deadline_exceeded": (IMAGE, {}),
}
HTTP_STATUS = {kind.code: kind.status for kind in RequestError.__subclasses__()}


def test_every_code_is_caused_here() -> None:
    assert set(FAULTS) == set(BY_CODE)


@pytest.mark.parametrize("code", FAULTS)
def test_each_code_raises_its_own_type(
    monkeypatch: pytest.MonkeyPatch, client: AnyClient, code: str
) -> None:
    image, options = FAULTS[code]
    if not image:  # which our own clients refuse to send
        monkeypatch.setattr("d2serve.client.predict.requests.encode_image", lambda *_, **__: b"")
    if code == "deadline_exceeded":  # which our own clients do not send from the start
        monkeypatch.setattr(Deadlines, "call", lambda _, ask: ask(f"{time.time() - 1:.3f}"))
        monkeypatch.setattr(Deadlines, "call_async", lambda _, ask: ask(f"{time.time() - 1:.3f}"))
    with pytest.raises((RequestRejected, ServerFailed)) as caught:
        client.predict("shapes", image, **options)
    error: Any = caught.value
    assert type(error) is BY_CODE[code]
    assert error.code == code
    assert error.message in str(error)
    assert error.status == (None if isinstance(client, D2ServeGrpcClient) else HTTP_STATUS[code])
    assert error.request_id
    assert error.request_id in str(error)


def test_what_only_the_server_can_judge(client: AnyClient) -> None:
    wishes: list[dict[str, Any]] = [
        {"score_thresh": 0.24},
        {"max_detections": 1001},
        {"classes": ["triangle"]},
        {"classes": [3]},
    ]
    for wish in wishes:
        (name,) = wish
        with pytest.raises(InvalidOption, match=name):
            client.predict("shapes", IMAGE, **wish)
    for picture in (b"bad", noise()):
        with pytest.raises(RequestRejected):
            client.predict_picture("shapes", picture)


def test_a_model_that_failed_answers_the_next(client: AnyClient) -> None:
    with pytest.raises(ModelFailed, match="an unlucky image"):
        client.predict_picture("shapes", grey(UNLUCKY))
    assert client.predict_picture("shapes", IMAGE)


def test_the_example_of_the_docs(
    shapes: TorchServeProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "requests.md").read_text()
    example = page.split("## Python client")[1].split("```python\n")[1].split("```")[0]
    address = '"http://127.0.0.1:8080", key_file="key_file.json"'
    assert address in example
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(IMAGE)
    exec(
        example.replace(address, f"{shapes.inference_address!r}, key_file={str(shapes.key_file)!r}")
    )
    with Image.open("found.jpg") as picture:
        assert picture.format == "JPEG"
    found, refused = capsys.readouterr().out.splitlines()
    assert found == "circle ((0.0, 0.0, 15.0, 0.0, 15.0, 10.0, 0.0, 10.0),) 150"
    assert refused.startswith("choose other options: Got the option classes='no such class'")
