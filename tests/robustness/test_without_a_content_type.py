"""Bodies whose content type is missing or another's, and what is said twice, on a live server.

curl says of a body of which it is told nothing that it is a form. Of such a body TorchServe makes
pieces or 500, which nothing in its configuration changes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from d2serve.client.connection.server_errors import http_error
from d2serve.client.connection.settings import Connection
from d2serve.client.errors import RequestRejected
from tests.handlers.samples import picture, saved
from tests.robustness.grpc_calls import GrpcCalls
from tests.robustness.sending import Sender, grey, refusal

pytestmark = pytest.mark.server

FORM = {"content-type": "application/x-www-form-urlencoded"}
BASE64 = base64.b64encode(grey(51)).decode()
# Base64 of these has every letter that a form means otherwise.
NOISY = saved(picture(64, 48), "JPEG", quality=95)
ALL = "score_thresh=0.1"
NONE = "score_thresh=0.99"
"""Of the one instance that there is, at 0.2."""


@pytest.fixture(autouse=True)
def _same_workers(sender: Sender) -> Iterator[None]:
    before = sender.workers()
    yield
    assert sender.image(grey(51)).status_code == 200
    assert sender.workers() == before


def instances(response: httpx.Response) -> list[Any]:
    assert response.status_code == 200, response.text
    found: list[Any] = response.json()["instances"]
    return found


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_an_image_that_is_taken_for_a_form(sender: Sender, kind: str) -> None:
    """As by `curl --data-binary @photo.png`. Where Java makes fields of it, the handler tells."""
    for edge in (20, 21, 22):
        response = sender.post(content=saved(picture(edge, edge), kind), headers=FORM)
        if response.status_code == 500:
            assert response.json()["type"] == "ErrorDataDecoderException"
        else:
            message = refusal(response, 400, "empty_request")
            assert '-H "Content-Type: image/jpeg"' in message
            assert len(message) < 600, "without the bytes that were sent"


def test_one_that_java_refuses(sender: Sender) -> None:
    """With a status of TorchServe's own; our clients say what to do."""
    response = sender.post(content=b"\xff\xd8\xff=%&" + NOISY, headers=FORM)
    body = response.json()
    assert (response.status_code, body["type"]) == (500, "ErrorDataDecoderException")
    error = http_error(500, response.content, Connection("inference", "127.0.0.1"))
    assert isinstance(error, RequestRejected)
    assert '-H "Content-Type: image/jpeg"' in str(error)


def test_the_same_with_its_content_type(sender: Sender) -> None:
    for kind in ("image/jpeg", "application/octet-stream", "text/plain"):
        assert sender.post(content=NOISY, headers={"content-type": kind}).status_code == 200
    assert sender.post(content=NOISY).status_code == 200, "and with none at all"


@pytest.mark.parametrize("kind", ["image/jpeg", "text/plain;charset=UTF-8", "text/json", None])
def test_json_without_its_content_type(sender: Sender, kind: str | None) -> None:
    """A browser's fetch makes it text/plain."""
    headers = {} if kind is None else {"content-type": kind}
    for options, count in (({"masks": "none"}, 1), ({"score_thresh": 0.99}, 0)):
        content = json.dumps({"image": BASE64, **options})
        assert len(instances(sender.post(content=content.encode(), headers=headers))) == count
    call = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [BASE64]}]}
    sent = sender.post("/v2/models/shapes/infer", content=json.dumps(call), headers=headers)
    assert sent.status_code == 200


def test_json_that_is_taken_for_a_form(sender: Sender) -> None:
    """As by `curl -d '{"image": ...}'`."""
    noisy = base64.b64encode(NOISY).decode()
    assert {"+", "/"} <= set(noisy)
    expected = sender.post(json={"image": noisy}).json()
    for separators in ((",", ":"), (", ", ": ")):
        for sent in ({"image": noisy}, {"masks": "rle", "image": noisy, "classes": [0, 1]}):
            content = json.dumps(sent, separators=separators)
            read = sender.post(content=content, headers=FORM).json()
            assert read["instances"] == expected["instances"]
    cut = sender.post(content=json.dumps({"image": noisy, "masks": "none"}, indent=1), headers=FORM)
    assert "application/json" in refusal(cut, 400, "empty_request")


def test_forms_that_are_none(sender: Sender) -> None:
    bare = {"content-type": "multipart/form-data"}
    head = b'--x\r\nContent-Disposition: form-data; name="data"; filename="a.png"\r\n\r\n'
    body = head + grey(51) + b"\r\n--x--"
    assert "boundary" in refusal(sender.post(content=body, headers=bare), 400, "empty_request")
    whole = {"content-type": "multipart/form-data; boundary=x"}
    assert sender.post(content=body, headers=whole).status_code == 200
    for encoding in (b"binary", b"8bit", b"7bit", b"base64"):
        line = b"\r\nContent-Transfer-Encoding: " + encoding
        sent = body.replace(b"\r\n\r\n", line + b"\r\n\r\n", 1)
        refused = sender.post(content=sent, headers=whole)
        if encoding != b"base64":
            assert refused.status_code == 200, encoding
    assert refused.status_code == 500
    assert refused.json()["message"] == "TransferEncoding Unknown: base64"
    fields = sender.post(data={"image": BASE64, "masks": "none"})
    assert "-F data=@photo.jpg" in refusal(fields, 400, "empty_request")


def test_what_torchserve_keeps_one_of(sender: Sender) -> None:
    """docs/requests.md says so: of these the handler sees the last alone, or nothing."""
    image = ("data", ("one.png", grey(51)))
    twice = [image, *(("score_thresh", (None, each)) for each in ("0.99", "0.1"))]
    assert len(instances(sender.post(files=twice))) == 1
    two = sender.post(files=[image, ("data", ("two.png", grey(102)))])
    assert instances(two)[0]["score"] == pytest.approx(0.4)
    headers = [("content-type", "image/png")]
    headers += [("X-D2serve-score_thresh", each) for each in ("0.1", "0.99")]
    assert instances(sender.post(content=grey(51), headers=headers)) == []
    dropped = sender.post(f"/predictions/shapes?{NONE}&nonsense=1", content=grey(51))
    assert len(instances(dropped)) == 1
    invoked = "/models/shapes/invoke"
    assert len(instances(sender.post(f"{invoked}?{NONE}&{ALL}", content=grey(51)))) == 1


def test_what_the_handler_can_tell_is_refused(sender: Sender) -> None:
    head, png = {"X-D2serve-score_thresh": "0.1"}, {"content-type": "image/png"}
    text = f'{{"image": "{BASE64}", "score_thresh": 0.1, "score_thresh": 0.99}}'.encode()
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [BASE64]}
    inputs = json.dumps({"inputs": [image]})
    call = inputs[:-1] + ', "parameters": {"masks": "rle", "masks": "none"}}'
    asked = {
        "form and header": sender.post(
            files={"data": grey(51)}, data={"score_thresh": "0.1"}, headers=head
        ),
        "two spellings": sender.post(
            content=grey(51), headers={**head, "x-d2serve-Score-Thresh": "0.99", **png}
        ),
        "JSON": sender.post(content=text, headers={"content-type": "application/json"}),
        "JSON as text": sender.post(content=text, headers={"content-type": "text/plain"}),
        "data and body": sender.post(files={"data": grey(51), "body": grey(102)}),
        "query and header": sender.post(
            f"/models/shapes/invoke?{ALL}", content=grey(51), headers={**head, **png}
        ),
    }
    for way, response in asked.items():
        assert response.status_code == 400, way
        assert response.json()["error"]["code"] == "invalid_option", way
    infer = sender.post("/v2/models/shapes/infer", content=call)
    assert infer.json()["error"].startswith("invalid_option: Got 'masks' twice in one JSON object")
    both = GrpcCalls(sender.server).predict(data=grey(51), body=grey(102))
    assert both["error"]["code"] == "invalid_option"
