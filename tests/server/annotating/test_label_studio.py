"""The ML backend over HTTP, with a small archive that answers: statuses, and who is answered."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from d2serve.client.errors import ServerStartError
from d2serve.server.annotating.asking import open_model
from d2serve.server.annotating.label_studio import LabelStudioBackend
from d2serve.server.annotating.label_studio_server import LabelStudioServer, Login
from d2serve.server.annotating.task_images import TaskImages
from tests.client.answering_archives import answering_archive

CONFIG = """<View><Image name="img" value="$image"/>
<RectangleLabels name="box" toName="img"><Label value="circle"/></RectangleLabels></View>"""


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioBackend]:
    model = open_model(answering_archive(tmp_path_factory.mktemp("archive") / "shapes.mar"))
    yield LabelStudioBackend(model, TaskImages(model.about.most_image_bytes))
    model.close()


@contextlib.contextmanager
def _running(backend: LabelStudioBackend, login: Login = None) -> Iterator[httpx.Client]:
    with LabelStudioServer(backend, "127.0.0.1", 0, login) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with httpx.Client(base_url=server.address, trust_env=False) as client:
                yield client
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def asked(backend: LabelStudioBackend) -> Iterator[httpx.Client]:
    with _running(backend) as client:
        yield client


def _task(number: int, image: str | None = None) -> dict[str, Any]:
    encoded = io.BytesIO()
    Image.new("RGB", (80, 40), (200, 200, 200)).save(encoded, "PNG")
    data = "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode()
    return {"id": number, "data": {"image": data if image is None else image}}


def _question(*tasks: Any, config: str = CONFIG) -> dict[str, Any]:
    context = {"login": None, "password": None, "context": None}
    return {"tasks": tasks, "label_config": config, "project": "1.2", "params": context}


def test_health(asked: httpx.Client) -> None:
    for path in ("/", "/health", "/health/"):
        answer = asked.get(path)
        assert answer.status_code == 200
        assert answer.json()["status"] == "UP"
    assert asked.get("/metrics").json() == {}


def test_setup(asked: httpx.Client) -> None:
    body = {"project": "1.2", "schema": CONFIG, "hostname": "http://evil", "access_token": "t"}
    assert asked.post("/setup", json=body).json() == {"model_version": "shapes-2.0"}
    for empty in ("<View></View>", "", None):
        assert asked.post("/setup", json={**body, "schema": empty}).status_code == 200
    refused = asked.post("/setup", json={**body, "schema": CONFIG.replace("circle", "person")})
    assert refused.status_code == 400
    assert "predicted_values" in refused.json()["error"]


def test_predict(asked: httpx.Client) -> None:
    answer = asked.post("/predict", json=_question(_task(1), _task(2)))
    assert answer.status_code == 200
    body = answer.json()
    assert body["model_version"] == "shapes-2.0"
    assert len(body["results"]) == 2
    for result in body["results"]:
        (box,) = result["result"]
        assert (box["from_name"], box["to_name"], box["type"]) == ("box", "img", "rectanglelabels")
        assert (box["original_width"], box["original_height"]) == (80, 40)
        value = {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0}
        assert box["value"] == {**value, "rectanglelabels": ["circle"]}
        assert box["score"] == result["score"] == pytest.approx(200 / 255)


def test_a_task_that_fails_harms_no_other(asked: httpx.Client) -> None:
    tasks = [_task(1), _task(2, "http://elsewhere.example/a.jpg"), _task(3), {"id": 4}]
    answer = asked.post("/predict", json=_question(*tasks))
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [len(each["result"]) for each in results] == [1, 0, 1, 0]
    assert "elsewhere.example" in results[1]["error"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (_question(_task(1, "data:,no image")), 415, "image"),
        (_question(_task(1, "http://elsewhere.example/a")), 400, "may not ask"),
        (_question(_task(1), config="<View/>"), 400, "expected an <Image"),
        (_question(_task(1), config=CONFIG.replace("circle", "dog")), 400, "that both have"),
        ({"tasks": "all", "label_config": CONFIG}, 400, "a list of objects"),
        ({"tasks": [1], "label_config": CONFIG}, 400, "a list of objects"),
        ({"tasks": [_task(1)]}, 400, "label_config"),
        ({"tasks": [{}] * 1001, "label_config": CONFIG}, 400, "up to 1000"),
    ],
)
def test_what_cannot_be_answered(
    body: dict[str, Any], status: int, message: str, asked: httpx.Client
) -> None:
    answer = asked.post("/predict", json=body)
    assert message in answer.json()["error"]
    assert answer.status_code == status


def test_training_does_nothing(asked: httpx.Client) -> None:
    for path in ("/train", "/webhook"):
        answer = asked.post(path, json={"action": "START_TRAINING", "annotations": []})
        assert (answer.status_code, answer.json()) == (201, {})


def test_questions_that_are_none(asked: httpx.Client) -> None:
    form = {"content-type": "text/plain"}
    assert asked.post("/predict", content=b"{}", headers=form).status_code == 415
    json_type = {"content-type": "application/json"}
    for body in (b"[]", b"{", b"\xff", b"[" * 100_000):
        assert asked.post("/predict", content=body, headers=json_type).status_code == 400
    with contextlib.closing(HTTPConnection(asked.base_url.host, asked.base_url.port)) as raw:
        raw.putrequest("POST", "/predict")
        raw.putheader("Content-Type", "application/json")
        raw.putheader("Content-Length", "99999999999")
        raw.endheaders()
        assert raw.getresponse().status == 413
    assert asked.post("/predict", content=iter([b"{}"]), headers=json_type).status_code == 411
    assert asked.get("/predict").status_code == 404
    assert asked.post("/health", json={}).status_code == 404
    assert asked.put("/predict", json={}).status_code == 501
    assert asked.get("/health").status_code == 200


def test_a_page_of_another_name_is_not_answered(asked: httpx.Client) -> None:
    for name in ("rebound.example", "rebound.example:9090", ""):
        assert asked.get("/health", headers={"host": name}).status_code == 403
    for name in ("localhost:9090", "127.0.0.1", "[::1]:9090"):
        assert asked.get("/health", headers={"host": name}).status_code == 200


def test_a_password(backend: LabelStudioBackend) -> None:
    with _running(backend, ("studio", "sécret:x")) as client:
        refused = client.get("/health")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
        assert client.get("/health", auth=("studio", "wrong")).status_code == 401
        named = {"host": "backend.example:9090"}
        answer = client.get("/health", auth=("studio", "sécret:x"), headers=named)
        assert answer.status_code == 200


def test_others_need_a_password(backend: LabelStudioBackend) -> None:
    with pytest.raises(ServerStartError, match="BASIC_AUTH_USER"):
        LabelStudioServer(backend, "0.0.0.0", 0)


def test_a_port_that_is_taken(backend: LabelStudioBackend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerStartError, match=f"port {port} .*Choose another port"):
            LabelStudioServer(backend, "127.0.0.1", port)


def test_what_is_left_out_is_said_once(
    backend: LabelStudioBackend, caplog: pytest.LogCaptureFixture
) -> None:
    tags = '<BrushLabels name="b" toName="img"><Label value="circle"/></BrushLabels>'
    config = CONFIG.replace("</View>", f"{tags}</View>")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            backend.setup({"schema": config})
    assert caplog.text.count("may overlap") == 1
    assert caplog.text.count("no label for square") <= 1  # said before, in another test


def test_the_brush_of_the_published_example() -> None:
    """The first values of a mask that Label Studio's own SDK encodes."""
    from d2serve.server.annotating.brush_rle import encode_brush

    # 4 x 4 pixels, the upper left one set: 64 bytes, of which 4 are 255 and 60 are 0.
    mask = np.zeros((4, 4), np.bool_)
    mask[0, 0] = True
    header = f"{64:032b}" + f"{7:05b}" + "0010" + "0011" + "0111" + "1111"
    runs = "1" + "00" + "011" + "1" * 8 + "1" + "10" + f"{59:08b}" + "0" * 8
    bits = header + runs
    bits += "0" * (-len(bits) % 8)
    assert encode_brush(mask) == [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def test_the_archive_is_given_back(tmp_path: Path) -> None:
    model = open_model(answering_archive(tmp_path / "shapes.mar"))
    assert model.predict(Image.new("RGB", (20, 10), (255, 0, 0))).width == 20
    model.close()
