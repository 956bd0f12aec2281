"""An ASGI application answers TorchServe's paths over any model, and reads no more than it may."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.errors import InvalidOption, ModelNotFound, ServerOverloaded
from d2serve.client.predict.http_client import D2ServeClient
from d2serve.handlers.replies.reply import Reply
from d2serve.handlers.requests.request import HTTP, INFER, Request
from d2serve.handlers.service import Service
from d2serve.server.asgi.application import Limits, application
from d2serve.server.asgi.models import Ask
from d2serve.server.asgi.refusals import Overloaded
from tests.handlers.programs import write_archive
from tests.handlers.samples import saved
from tests.server.asgi.serving import serving

PNG = saved(Image.new("RGB", (30, 20), (51, 51, 51)), "PNG")
JPEG = {"content-type": "image/jpeg"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LIMITS = Limits(body_bytes=100_000, body_seconds=0.7, answer_seconds=0.5)


class Asked:
    """Asks a service off the event loop, and keeps what it was asked."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.requests: list[Request] = []
        self._pool = ThreadPoolExecutor(1)

    async def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self.service.reply, request)


async def slow(_: Request) -> Reply:
    await asyncio.sleep(30)
    raise AssertionError


async def full(_: Request) -> Reply:
    raise Overloaded


async def broken(_: Request) -> Reply:
    raise ValueError("a secret")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = write_archive(tmp_path_factory.mktemp("scripted"), "scripting")
    return Asked(Service.open(folder, "shapes", "1.0"))


@pytest.fixture(scope="module")
def address(asked: Asked) -> Iterator[str]:
    models: dict[str, Ask] = {
        "shapes/1.0": asked,
        "shapes/2.0": broken,
        "slow": slow,
        "full": full,
    }
    with serving(application(models, LIMITS)) as found:
        yield found


@pytest.fixture(scope="module")
def alone(asked: Asked) -> Iterator[str]:
    with serving(application({"shapes/1.0": asked}, LIMITS)) as found:
        yield found


def same(answer: httpx.Response, service: Service, request: Request) -> None:
    """The answer is that of the service, to the byte."""
    expected = service.reply(request)
    assert answer.content == expected.body
    assert answer.status_code == expected.status
    assert answer.headers["content-type"] == expected.content_type


def error(answer: httpx.Response) -> tuple[int, str]:
    said = answer.json()
    assert said["error"]["message"]
    assert said["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, said["error"]["code"]


def of(id: str, **more: Any) -> dict[str, Any]:
    return {"headers": {"x-request-id": id, **more}}


def test_an_image_is_answered_as_by_the_service(address: str, asked: Asked) -> None:
    answer = httpx.post(f"{address}/predictions/shapes", content=PNG, **of("a-1", **JPEG))
    same(answer, asked.service, Request(PNG, headers=JPEG, transport=HTTP, id="a-1"))
    assert answer.headers["x-request-id"] == "a-1"
    assert answer.json()["instances"]


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("?max_detections=1", {"content": PNG}),
        ("/1.0", {"files": {"data": PNG}, "data": {"max_detections": "1"}}),
        ("", {"files": {"body": PNG, "max_detections": (None, "1")}}),
        ("", {"json": {"image": base64.b64encode(PNG).decode(), "max_detections": 1}}),
        ("", {"content": PNG, "headers": {"X-D2serve-Max-Detections": "1"}}),
        (
            "",
            {
                "content": PNG,
                "headers": {"X-Amzn-SageMaker-Custom-Attributes": "max_detections=1"},
            },
        ),
        (
            "?max_detections=1",
            {"content": gzip.compress(PNG), "headers": {"Content-Encoding": "gzip"}},
        ),
    ],
)
def test_options_come_every_way(address: str, asked: Asked, path: str, sent: Any) -> None:
    answer = httpx.post(f"{address}/predictions/shapes{path}", **sent)
    options = {"max_detections": 1}
    id = answer.headers["x-request-id"]
    same(answer, asked.service, Request(PNG, options, transport=HTTP, id=id))
    assert len(answer.json()["instances"]) == 1


def test_a_form_that_is_packed_is_unpacked(address: str) -> None:
    form = httpx.Request("POST", address, files={"data": PNG}, data={"max_detections": "1"})
    headers = {"content-type": form.headers["content-type"], "content-encoding": "gzip"}
    packed = gzip.compress(form.read())
    answer = httpx.post(f"{address}/predictions/shapes", content=packed, headers=headers)
    assert len(answer.json()["instances"]) == 1


def test_a_call_of_the_open_inference_protocol(address: str, asked: Asked) -> None:
    call = {
        "id": "7",
        "inputs": [
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [1],
                "data": [base64.b64encode(PNG).decode()],
            }
        ],
    }
    for path in ("shapes", "shapes/versions/1.0"):
        answer = httpx.post(f"{address}/v2/models/{path}/infer", json=call, **of("b-1"))
        body = json.dumps(call).encode()
        same(answer, asked.service, Request(body, kind=INFER, transport=HTTP, id="b-1"))
        assert answer.json()["id"] == "7"
    # Triton's client wants a text.
    failed = httpx.post(f"{address}/v2/models/shapes/infer", json={})
    assert failed.status_code == 400
    assert failed.json()["error"].startswith("empty_request: ")
    failed = httpx.post(f"{address}/v2/models/other/infer", json=call)
    assert (failed.status_code, failed.json()["error"][:17]) == (404, "model_not_found: ")


def test_what_it_says_of_itself(address: str, alone: str, asked: Asked) -> None:
    described = json.loads(asked.service.reply(Request(kind="describe")).body)
    for path in ("/models/shapes", "/models/shapes/1.0", "/v2/models/shapes"):
        assert httpx.get(address + path).json() == described
    assert httpx.get(f"{address}/models").json()["models"][:2] == [
        {"modelName": "shapes", "modelVersion": "1.0"},
        {"modelName": "shapes", "modelVersion": "2.0"},
    ]
    assert httpx.get(f"{alone}/ping").content == b'{\n  "status": "Healthy"\n}\n'
    assert httpx.get(f"{alone}/v2/health/live").json() == {"live": True}
    assert httpx.get(f"{alone}/v2/health/ready").json() == {"ready": True}
    assert httpx.get(f"{alone}/v2/models/shapes/ready").json() == {"name": "shapes", "ready": True}
    assert httpx.get(f"{alone}/v2").json()["name"] == "d2serve"
    head = httpx.head(f"{alone}/ping")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "26")


def test_a_model_that_fails_or_does_not_answer_is_not_ready(address: str) -> None:
    assert httpx.get(f"{address}/v2/models/shapes/versions/2.0/ready").status_code == 503
    with serving(application({"full": full})) as failing:
        assert httpx.get(f"{failing}/ping").status_code == 500
        assert httpx.get(f"{failing}/v2/health/ready").json() == {"ready": False}
        assert httpx.get(f"{failing}/v2/health/live").status_code == 200


def test_invocations(address: str, alone: str) -> None:
    """SageMaker's path has no name in it; of several models one has to be named."""
    for path in ("/invocations", "/"):
        assert httpx.post(alone + path, content=PNG, headers=JPEG).json()["instances"]
    several = f"{address}/invocations"
    assert error(httpx.post(several, content=PNG)) == (400, "invalid_option")
    attributes = {"X-Amzn-SageMaker-Custom-Attributes": "model_name=shapes%2F1.0&max_detections=1"}
    answer = httpx.post(several, content=PNG, headers=attributes)
    assert len(answer.json()["instances"]) == 1
    assert httpx.post(f"{several}?model_name=shapes", content=PNG).status_code == 200
    form = httpx.post(several, files={"data": PNG}, data={"model_name": "shapes"})
    assert form.status_code == 200
    assert error(httpx.post(f"{several}?model_name=no", content=PNG)) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", (405, "method_not_allowed")),
        ("GET", "/favicon.ico", (404, "not_found")),
        ("POST", "/predictions", (404, "not_found")),
        ("POST", "/predictions/other", (404, "model_not_found")),
        ("POST", "/predictions/shapes/9", (404, "model_not_found")),
        ("GET", "/models/other", (404, "model_not_found")),
        ("GET", "/predictions/shapes", (405, "method_not_allowed")),
        ("DELETE", "/models/shapes", (405, "method_not_allowed")),
        ("POST", "/ping", (405, "method_not_allowed")),
        ("POST", "/predictions/shapes", (400, "empty_request")),
        ("POST", "/predictions/shapes?max_detections=1&max_detections=2", (400, "invalid_option")),
        ("POST", "/predictions/shapes?" + "a=1&" * 200, (400, "invalid_option")),
        ("POST", "/predictions/shapes/2.0", (500, "server_failed")),
        ("POST", "/predictions/full", (503, "overloaded")),
    ],
)
def test_errors(address: str, method: str, path: str, expected: tuple[int, str]) -> None:
    answer = httpx.request(method, address + path)
    assert error(answer) == expected
    assert "secret" not in answer.text
    if expected[0] == 405:
        assert method not in answer.headers["allow"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_form"),
        (b"no form at all", "invalid_form"),
        (b"--b\r\n\r\nx\r\n--b--\r\n", "invalid_form"),
        (b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\nx', "invalid_form"),
        (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--', "empty_request"),
        (
            b'--b\r\nContent-Disposition: form-data; name="data"\r\n'
            b"Content-Transfer-Encoding: base64\r\n\r\nx\r\n--b--",
            "invalid_form",
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\nx\r\n' * 2 + b"--b--",
            "invalid_option",
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="o"\r\n\r\nx\r\n' * 200 + b"--b--",
            "invalid_form",
        ),
        (b"--b\r\n" + b"X-Long: " + b"x" * 90_000 + b"\r\n\r\nx\r\n--b--", "invalid_form"),
    ],
)
def test_hostile_forms(address: str, body: bytes, code: str) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    url = f"{address}/predictions/shapes"
    assert error(httpx.post(url, content=body, headers=headers)) == (400, code)
    without = {"content-type": "multipart/form-data"}
    assert httpx.post(url, content=body, headers=without).status_code in (400, 415)
    assert httpx.post(url, content=PNG, headers=JPEG).status_code == 200  # it lives


def test_no_form_that_is_cut_or_changed_is_a_failure(address: str) -> None:
    form = httpx.Request("POST", address, files={"data": PNG}, data={"max_detections": "1"})
    body, headers = form.read(), {"content-type": form.headers["content-type"]}
    with httpx.Client() as client:
        for place in range(0, len(body), 41):
            for changed in (body[:place], body[:place] + b"\xff" + body[place + 1 :]):
                url = f"{address}/predictions/shapes"
                answer = client.post(url, content=changed, headers=headers)
                assert answer.status_code in (200, 400, 415), changed


def connect(address: str) -> socket.socket:
    place = urlsplit(address)
    return socket.create_connection((place.hostname, place.port or 0), timeout=20)


def test_who_is_refused_while_still_sending_gets_to_know_it(address: str) -> None:
    """A connection that is closed at once is reset, and what was said on it is lost."""
    head = b"POST /predictions/shapes HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"
    for _ in range(5):
        with connect(address) as line:
            line.sendall(head)
            for _ in range(200):
                line.sendall(bytes(20_000))
            answer = line.recv(4096)
        assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_large_body_is_refused_before_it_is_read(address: str, asked: Asked) -> None:
    before = len(asked.requests)
    with connect(address) as line:  # which never sends its body
        line.sendall(b"POST /predictions/shapes HTTP/1.1\r\nHost: x\r\nContent-Length: ")
        line.sendall(b"200000000\r\n\r\n")
        answer = b"".join(iter(lambda: line.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'{"error":{"code":"too_large","message":"Got a body of 200,000,000 bytes' in answer
    assert b"connection: close" in answer.lower()
    # Without a length it is counted.
    pieces = (bytes(10_000) for _ in range(11))
    url = f"{address}/predictions/shapes"
    assert error(httpx.post(url, content=pieces, headers=JPEG)) == (413, "too_large")
    pieces = (bytes(10_000) for _ in range(10))
    assert error(httpx.post(url, content=pieces, headers=JPEG)) == (
        415,
        "unsupported_image_format",
    )
    assert len(asked.requests) == before + 1


def test_an_unknown_model_is_told_before_the_body(address: str) -> None:
    with connect(address) as line:
        line.sendall(b"POST /predictions/no HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 404 ")


def test_a_slow_client_is_not_waited_for_and_harms_nobody(address: str) -> None:
    with connect(address) as line:
        line.sendall(
            b"POST /predictions/shapes HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n"
        )
        line.sendall(b"x")
        answer = httpx.post(f"{address}/predictions/shapes", content=PNG, headers=JPEG)
        assert answer.status_code == 200
        assert line.recv(4096).startswith(b"HTTP/1.1 408 ")
    with connect(address) as line:  # and who goes away
        line.sendall(
            b"POST /predictions/shapes HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nx"
        )
    assert httpx.post(f"{address}/predictions/shapes", content=PNG).status_code == 200


def test_an_answer_is_waited_for_so_long(address: str) -> None:
    began = time.monotonic()
    answer = httpx.post(f"{address}/predictions/slow", content=PNG)
    assert error(answer) == (504, "deadline_exceeded")
    assert 0.4 < time.monotonic() - began < 10
    began, soon = time.monotonic(), {"X-Request-Deadline": f"{time.time() + 0.1:.3f}"}
    answer = httpx.post(f"{address}/predictions/slow", content=PNG, headers=soon)
    assert error(answer) == (504, "deadline_exceeded")
    assert time.monotonic() - began < 0.45
    bad = {"X-Request-Deadline": "soon"}
    answer = httpx.post(f"{address}/predictions/shapes", content=PNG, headers=bad)
    assert error(answer) == (400, "invalid_option")


def test_ids_and_traces(address: str, asked: Asked) -> None:
    url = f"{address}/predictions/shapes"
    answer = httpx.post(url, content=PNG, headers={"traceparent": TRACE})
    assert len(answer.headers["x-request-id"]) == 36
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert asked.service.reply(asked.requests[-1]).trace is not None
    for harmful in ("[METRICS]a", "x" * 200, "a b"):
        answer = httpx.post(url, content=PNG, headers={"x-request-id": harmful})
        assert len(answer.headers["x-request-id"]) == 36


def test_our_client_needs_no_other_server(address: str, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(PNG)
    with D2ServeClient(address, retry=NO_RETRY) as client:
        assert client.predict("shapes", image, max_detections=1).instances
        assert client.predict("shapes", image, version="1.0").instances
        with pytest.raises(InvalidOption):
            client.predict("shapes", image, score_thresh=0.0)
        with pytest.raises(ModelNotFound):
            client.predict("other", image)
        with pytest.raises(ServerOverloaded):
            client.predict("full", image)
