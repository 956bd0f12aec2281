"""What ends a TorchServe worker, or answers for a whole batch, sent to one server that lives on.

After each of them the workers are the same processes, and the next request gets its answer.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from d2serve.server.torchserve.process import TorchServeProcess
from tests.handlers.programs import UNLUCKY
from tests.handlers.samples import picture, saved
from tests.robustness.conftest import BATCH
from tests.robustness.grpc_calls import GrpcCalls
from tests.robustness.sending import Sender, grey, refusal

pytestmark = pytest.mark.server

LIMIT = 6_553_500


def noise(edge: int) -> bytes:
    """A picture of about 3 bytes a pixel, however it is packed."""
    pixels = np.random.default_rng(0).integers(0, 256, (edge, edge, 3), np.uint8)
    return saved(Image.fromarray(pixels), "PNG", compress_level=1)


@pytest.fixture(scope="session")
def grpc_calls(server: TorchServeProcess) -> GrpcCalls:
    return GrpcCalls(server)


@pytest.fixture(autouse=True)
def _same_workers(sender: Sender) -> Iterator[None]:
    before = sender.workers()
    assert {status for _, status in before.values()} == {"READY"}
    yield
    for model in ("shapes", "ground"):
        assert sender.image(grey(51), model).status_code == 200
    assert sender.workers() == before


def test_a_bad_image_does_not_fail_its_batch(sender: Sender) -> None:
    """One PredictionException would be the answer of all."""
    images = [grey(51), b"bad", grey(UNLUCKY), grey(102)]
    with ThreadPoolExecutor(BATCH) as pool:
        for _ in range(5):
            statuses = [each.status_code for each in pool.map(sender.image, images)]
            assert statuses == [200, 415, 500, 200]


def test_what_the_program_raises_is_an_error_of_ours(sender: Sender) -> None:
    assert "an unlucky image" in refusal(sender.image(grey(UNLUCKY)), 500, "model_failed")


@pytest.mark.parametrize("name", ["naïve", "größe\n", "\0", "日本語", "x" * 5000])
def test_names_that_no_reason_phrase_may_hold(sender: Sender, name: str) -> None:
    message = refusal(sender.form(grey(51), **{name: "1"}), 400, "invalid_option")
    assert "Options are score_thresh" in message


@pytest.mark.parametrize("value", ["naïve\r\nX-Evil: 1", "\0", "😀" * 1000])
def test_values_that_no_reason_phrase_may_hold(sender: Sender, value: str) -> None:
    assert "masks=" in refusal(sender.form(grey(51), masks=value), 400, "invalid_option")


def test_a_picture_larger_than_max_response_size(sender: Sender) -> None:
    largest = sender.form(noise(1470), draw="png")
    assert largest.status_code == 200
    assert largest.headers["content-type"] == "image/png"
    assert 6_400_000 < len(largest.content) < LIMIT
    message = refusal(sender.form(noise(1500), draw="png"), 413, "reply_too_large")
    assert f"expected at most {LIMIT:,}" in message


@pytest.mark.parametrize(("wish", "edge"), [("rle", 2600), ("png", 7000)])
def test_a_label_map_larger_than_max_response_size(sender: Sender, wish: str, edge: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (edge, edge), np.uint8) * 255
    data = saved(Image.fromarray(pixels).convert("1"), "PNG")
    message = refusal(sender.form(data, "ground", sem_seg=wish), 413, "reply_too_large")
    assert "bytes for a label map" in message


def test_streaming_over_grpc(grpc_calls: GrpcCalls) -> None:
    (reply,) = grpc_calls.stream(data=grey(51))
    assert reply["instances"][0]["category_name"] == "square"
    for bad, code in ((b"", "empty_request"), (b"bad", "unsupported_image_format")):
        (reply,) = grpc_calls.stream(data=bad)
        assert reply["error"]["code"] == code
    (reply,) = grpc_calls.stream()
    assert reply["error"]["code"] == "empty_request"


def test_grpc_without_streams(grpc_calls: GrpcCalls) -> None:
    assert grpc_calls.predict(data=grey(51), masks=b"none")["instances"]
    error = grpc_calls.predict(data=grey(51), masks=b"some")["error"]
    assert error["code"] == "invalid_option"
    assert grpc_calls.predict()["error"]["code"] == "empty_request"


def test_a_bomb_does_not_reach_the_response_timeout(sender: Sender) -> None:
    bomb = saved(picture(64, 48).resize((6000, 4000)), "JPEG", progressive=True, quality=1)
    last = bomb.rindex(b"\xff\xda")
    response = sender.image(bomb[:-2] + bomb[last:-2] * 2000 + bomb[-2:])
    refusal(response, 413, "image_too_slow")
    assert response.elapsed.total_seconds() < 5  # on a machine that others share


@pytest.mark.parametrize(
    "text",
    [
        '{"image": "%s", "score_thresh": NaN}',
        '{"image": "%s", "score_thresh": 1e999}',
        '{"image": "%s", "classes": [[[[[]]]]]}',
        '{"image": "%s", "naïve": null}',
        '{"image": "%s", "score_thresh": ' + "9" * 5000 + "}",
    ],
)
def test_numbers_that_json_cannot_say(sender: Sender, text: str) -> None:
    content = text.replace("%s", base64.b64encode(grey(51)).decode()).encode()
    response = sender.post(content=content, headers={"content-type": "application/json"})
    assert response.status_code in (400, 415), response.text
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "application/json"),
        (b"null", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"", "image/jpeg"),
        (b"\xff\xfe", "text/plain"),
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=x"),
        (b"\xff\xd8\xff&=%", "application/x-www-form-urlencoded"),
    ],
)
def test_bodies_that_are_not_what_they_say(sender: Sender, content: bytes, kind: str) -> None:
    """Some of them fail inside TorchServe, which is its answer, not ours."""
    response = sender.post(content=content, headers={"content-type": kind})
    ours = "error" in response.json()
    assert 400 <= response.status_code < (500 if ours else 600)


def test_bytes_without_any_header(sender: Sender) -> None:
    address = urlsplit(sender.server.inference_address)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        start = "POST /predictions/shapes HTTP/1.0\r\nAuthorization: Bearer "
        connection.sendall(f"{start}{sender.server.inference_token}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.")


def test_more_at_once_than_the_queue_holds(sender: Sender) -> None:
    def of_its_own(_: int) -> httpx.Response:
        stranger = Sender(sender.server)  # with a connection that no other thread has
        with stranger.http:
            return stranger.image(grey(51))

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(of_its_own, range(400)))
    told = {each.status_code: each.text[:300] for each in answers}
    assert set(told) <= {200, 503}, told
