"""Every client gives the same answer and the same error, against a real TorchServe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2serve.client.errors import (
    AuthorizationError,
    InvalidInput,
    MalformedReply,
    ModelNotFound,
    RequestRejected,
    ServerFailed,
    ServerUnavailable,
)
from d2serve.client.predict.grpc_client import D2ServeGrpcClient
from d2serve.client.predict.http_client import D2ServeClient
from d2serve.client.results.prediction import Prediction
from d2serve.server.torchserve.process import TorchServeProcess
from tests.client.blocking import AnyClient, BlockingAsyncClient

pytestmark = pytest.mark.server


@pytest.fixture(params=["http", "async", "grpc"])
def client(request: pytest.FixtureRequest, server: TorchServeProcess) -> AnyClient:
    if request.param == "http":
        return server.http
    if request.param == "grpc":
        return server.grpc
    return BlockingAsyncClient(server.inference_address, key_file=server.key_file)


def test_the_answer_is_typed_and_the_same_for_all(client: AnyClient) -> None:
    prediction = client.predict("canned", b"12345")
    assert (prediction.model, prediction.version) == ("canned", "1.0")
    assert (prediction.height, prediction.width) == (4, 6)
    (instance,) = prediction.instances
    assert instance.bbox == (1.0, 1.0, 3.0, 3.0)
    assert instance.category_id == 5, "all five bytes arrived, and nothing else"
    assert instance.keypoints == ((2.0, 2.0, 0.5),)
    assert instance.mask().shape == (4, 6)


def fields(prediction: Prediction) -> list[str]:
    """Those that arrived, but for the deadline, which is one over gRPC."""
    return [each for each in prediction.raw["fields"] if each != "deadline"]


def test_a_wish_travels_beside_the_image(client: AnyClient) -> None:
    alone = client.predict("canned", b"12345")
    assert fields(alone) in (["body"], ["data"]), "nothing but the image"
    assert alone.sem_seg is None
    image = bytes(range(256)) * 4000 + b"\r\n--"
    wished = client.predict("canned", image, sem_seg="rle")
    assert fields(wished) == ["data", "sem_seg"]
    assert wished.instances[0].category_id == len(image), "the image arrived whole"
    assert wished.sem_seg is not None
    np.testing.assert_array_equal(wished.sem_seg.label_map(), np.full((4, 6), 3))


def test_a_wish_that_no_server_knows_is_refused_before_anything_is_sent(client: AnyClient) -> None:
    with pytest.raises(InvalidInput, match="sem_seg is 'RLE': expected 'png'"):
        client.predict("canned", b"12345", sem_seg="RLE")


def test_a_rejected_image_is_an_error_even_where_grpc_says_ok(client: AnyClient) -> None:
    with pytest.raises(RequestRejected) as caught:
        client.predict("canned", b"bad")
    assert caught.value.code == "invalid_image"
    assert caught.value.message == "not an image"


def test_a_failing_handler_is_not_taken_for_overload(client: AnyClient) -> None:
    with pytest.raises(ServerFailed, match="Prediction failed"):
        client.predict("canned", b"boom")


def test_a_reply_of_another_kind_is_named(client: AnyClient) -> None:
    with pytest.raises(MalformedReply, match="it is a JSON list"):
        client.predict("canned", b"other")


def test_an_unknown_model_and_an_unknown_version(client: AnyClient) -> None:
    with pytest.raises(ModelNotFound, match="nothing_like_it"):
        client.predict("nothing_like_it", b"1")
    with pytest.raises(ModelNotFound, match=r"version: 9\.9"):
        client.predict("canned", b"1", version="9.9")


def test_an_image_travels_as_a_readable_file(server: TorchServeProcess, tmp_path: Path) -> None:
    picture = Image.new("RGB", (6, 4), "red")
    picture.save(tmp_path / "red.png")
    sent = (tmp_path / "red.png").stat().st_size
    from_path = server.http.predict("canned", tmp_path / "red.png")
    assert from_path.instances[0].category_id == sent
    assert server.grpc.predict("canned", tmp_path / "red.png") == from_path


@pytest.mark.parametrize("token", [None, "wrong"])
def test_no_token_or_a_wrong_one_is_refused(server: TorchServeProcess, token: str | None) -> None:
    clients: list[D2ServeClient | D2ServeGrpcClient] = [
        D2ServeClient(server.inference_address, token=token),
        D2ServeGrpcClient(server.grpc_address, token=token),
    ]
    for client in clients:
        with client, pytest.raises(AuthorizationError, match="inference token"):
            client.predict("canned", b"1")


def test_tokens_are_accepted_as_such_and_not_for_the_wrong_purpose(
    server: TorchServeProcess,
) -> None:
    with D2ServeClient(server.inference_address, token=server.inference_token) as client:
        assert client.ping() == "Healthy"
    with (
        D2ServeClient(server.inference_address, token=server.management_token) as client,
        pytest.raises(AuthorizationError),
    ):
        client.ping()


def test_a_renewed_token_is_picked_up_by_running_clients(server: TorchServeProcess) -> None:
    assert server.http.ping() == "Healthy"
    before = server.inference_token
    server.management.renew_token("inference")
    assert server.inference_token != before
    assert server.http.ping() == "Healthy"
    assert server.grpc.ping() == "Healthy"


def test_a_request_that_is_too_large_is_named(server: TorchServeProcess) -> None:
    for client in (server.http, server.grpc):
        with pytest.raises(RequestRejected, match="max_request_size") as caught:
            client.predict("canned", bytes(68_000_000))
        assert caught.value.code == "too_large"


def test_nobody_at_the_address() -> None:
    clients: list[D2ServeClient | D2ServeGrpcClient] = [
        D2ServeClient("127.0.0.1:1"),
        D2ServeGrpcClient("127.0.0.1:1"),
    ]
    for client in clients:
        with client, pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1"):
            client.predict("canned", b"1")
