"""Calls of the Open Inference Protocol to a live server, in every shape that clients send.

KServe's and Triton's HTTP clients send JSON without a content type or, for tensors made of arrays,
binary contents behind it; over gRPC TorchServe drops all but the inputs' contents and the id.
"""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from d2serve.server.torchserve.process import TorchServeProcess
from tests.robustness.conftest import BATCH
from tests.robustness.grpc_calls import GrpcCalls
from tests.robustness.sending import Sender, grey

pytestmark = pytest.mark.server

INFER = "/v2/models/shapes/infer"
DEFAULT = ["image_size", "boxes", "scores", "classes", "class_names", "masks"]
BASE64 = base64.b64encode(grey(51)).decode()
KINDS: dict[str, Any] = {"FP32": "<f4", "INT64": "<i8", "BYTES": np.object_}
FILE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [BASE64]}


@pytest.fixture(scope="module")
def stranger(server: TorchServeProcess) -> Sender:
    return Sender(server)


@pytest.fixture(scope="module")
def calls(server: TorchServeProcess) -> GrpcCalls:
    return GrpcCalls(server)


@pytest.fixture(autouse=True)
def _same_workers(stranger: Sender) -> Iterator[None]:
    before = stranger.workers()
    assert {status for _, status in before.values()} == {"READY"}
    yield
    assert stranger.image(grey(51)).status_code == 200
    assert stranger.workers() == before


def pixels_of(value: int, height: int = 20, width: int = 30) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


def tensors(response: httpx.Response) -> dict[str, Any]:
    """Outputs by name as KServe's client makes arrays of them."""
    assert response.status_code == 200, response.text
    end = int(response.headers.get("Inference-Header-Content-Length", len(response.content)))
    rest, found = response.content[end:], dict[str, Any]()
    for each in json.loads(response.content[:end])["outputs"]:
        size = each.get("parameters", {}).get("binary_data_size", 0)
        values = each["data"] if "data" in each else unpacked(each["datatype"], rest[:size])
        found[each["name"]] = np.array(values, KINDS[each["datatype"]]).reshape(each["shape"])
        rest = rest[size:]
    assert not rest
    return found


def unpacked(datatype: str, content: bytes) -> Any:
    """The values of a tensor's binary form."""
    if datatype != "BYTES":
        return np.frombuffer(content, KINDS[datatype])
    texts, place = [], 0
    while place < len(content):
        (length,) = struct.unpack_from("<I", content, place)
        texts.append(content[place + 4 : place + 4 + length].decode())
        place += 4 + length
    return texts


def refusal(response: httpx.Response, status: int, code: str) -> str:
    """The protocol's error: a text."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert error.startswith(f"{code}: ")
    return str(error)


def in_binary(request: dict[str, Any], *contents: bytes) -> dict[str, Any]:
    """What KServe's client posts of a request whose inputs have binary contents."""
    start = json.dumps(request).encode()
    headers = {
        "Inference-Header-Content-Length": str(len(start)),
        "content-type": "application/octet-stream",
    }
    return {"content": b"".join([start, *contents]), "headers": headers}


def test_an_image_file_as_json(stranger: Sender) -> None:
    request = {"id": "7", "model_name": "shapes", "inputs": [FILE]}
    answer = stranger.post(INFER, json=request)
    body = answer.json()
    assert (body["id"], body["model_name"], body["model_version"]) == ("7", "shapes", "1.0")
    found = tensors(answer)
    assert list(found) == DEFAULT
    assert found["image_size"].tolist() == [20, 30]
    assert found["boxes"].tolist() == [[0, 0, 15, 10]]
    assert found["scores"] == np.float32(51) / np.float32(255)
    assert found["classes"].tolist() == [1]
    assert found["class_names"].tolist() == ["square"]
    assert json.loads(found["masks"][0])["size"] == [20, 30]


def test_json_without_a_content_type(stranger: Sender) -> None:
    """So KServe's client sends it, and Triton's, which also asks for all outputs in binary."""
    request: dict[str, Any] = {"inputs": [FILE]}
    answer = stranger.post(INFER, content=json.dumps(request).encode())
    assert answer.json()["id"] == answer.headers["x-request-id"]
    request["parameters"] = {"binary_data_output": True}
    binary = stranger.post(INFER, content=json.dumps(request).encode())
    assert binary.headers["content-type"] == "application/octet-stream"
    assert b'"data"' not in binary.content
    expected, found = tensors(answer), tensors(binary)
    assert list(found) == list(expected)
    assert all(found[name].tolist() == expected[name].tolist() for name in found)
    plain = stranger.post(content=json.dumps({"image": BASE64, "masks": "none"}).encode())
    assert len(plain.json()["instances"][0]) == 5


@pytest.mark.parametrize("shape", [[20, 30, 3], [1, 20, 30, 3]])
def test_pixels(stranger: Sender, shape: list[int]) -> None:
    expected = stranger.post(INFER, json={"inputs": [FILE]}).json()["outputs"]
    array = pixels_of(51).reshape(shape)
    tensor: dict[str, Any] = {"name": "input-0", "datatype": "UINT8", "shape": shape}
    for data in (array.ravel().tolist(), array.tolist()):
        answer = stranger.post(INFER, json={"inputs": [{**tensor, "data": data}]})
        assert answer.json()["outputs"] == expected
    tensor["parameters"] = {"binary_data_size": array.size}
    answer = stranger.post(INFER, **in_binary({"inputs": [tensor]}, array.tobytes()))
    assert answer.json()["outputs"] == expected


def test_pixels_are_rgb(stranger: Sender) -> None:
    array = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    tensor = {"name": "image", "datatype": "UINT8", "shape": [120, 160, 3], "data": array.tolist()}
    request = {"inputs": [tensor], "parameters": {"draw": "png"}}
    drawn = json.loads(tensors(stranger.post(INFER, json=request))["reply"][0])
    assert drawn["content_type"] == "image/png"
    with Image.open(io.BytesIO(base64.b64decode(drawn["picture"]))) as picture:
        assert np.array_equal(np.asarray(picture)[80:], array[80:])  # where nothing is drawn


def test_binary_contents_of_several_inputs(stranger: Sender) -> None:
    masks = struct.pack("<I", 7) + b"polygon"
    image = struct.pack("<I", len(grey(51))) + grey(51)
    names = {"masks": masks, "image": image, "score_thresh": struct.pack("<f", 0.1)}
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [1]}
        | {"parameters": {"binary_data_size": len(content)}}
        for name, content in names.items()
    ]
    inputs[-1]["datatype"] = "FP32"
    answer = stranger.post(INFER, **in_binary({"inputs": inputs}, *names.values()))
    assert json.loads(tensors(answer)["masks"][0]) == [[0, 0, 15, 0, 15, 10, 0, 10]]
    short = in_binary({"inputs": inputs}, masks, image)
    assert "binary_data_size" in refusal(stranger.post(INFER, **short), 400, "invalid_option")
    short["headers"]["Inference-Header-Content-Length"] = "5"
    response = stranger.post(INFER, **short)
    assert response.status_code == 400
    assert "Inference-Header-Content-Length" in response.json()["error"]["message"]


def test_requested_outputs(stranger: Sender) -> None:
    wish = [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "reply"}]
    answer = stranger.post(INFER, json={"inputs": [FILE], "outputs": wish})
    assert b'"data":["{' in answer.content  # of the other one
    found = tensors(answer)
    assert list(found) == ["scores", "reply"]
    (instance,) = json.loads(found["reply"][0])["instances"]
    assert np.float32(instance["score"]) == found["scores"][0]
    names = stranger.post(INFER, json={"inputs": [FILE], "outputs": [{"name": "logits"}]})
    assert f"'logits' among the outputs, expected each once, out of {', '.join(DEFAULT)}" in (
        refusal(names, 400, "invalid_option")
    )


def test_nothing_found(stranger: Sender, calls: GrpcCalls) -> None:
    request = {"inputs": [FILE], "parameters": {"score_thresh": 0.9}}
    found = tensors(stranger.post(INFER, json=request))
    shapes = {name: each.shape for name, each in found.items()}
    assert shapes == {**dict.fromkeys(DEFAULT, (0,)), "image_size": (2,), "boxes": (0, 4)}
    answer = calls.answer(image=grey(51), score_thresh=b"0.9")
    told = {each.name: list(each.shape) for each in answer.outputs}
    assert told == {name: list(shape) for name, shape in shapes.items()}


def test_over_grpc(calls: GrpcCalls) -> None:
    answer = calls.answer(image=grey(77))
    assert (answer.id, answer.model_name, answer.model_version) == ("42", "shapes", "1.0")
    assert [each.name for each in answer.outputs] == DEFAULT
    contents = {each.name: each.contents for each in answer.outputs}
    assert list(contents["boxes"].fp32_contents) == [0, 0, 15, 10]
    assert list(contents["scores"].fp32_contents) == [np.float32(77) / np.float32(255)]
    assert list(contents["classes"].int64_contents) == [1]
    # What TorchServe makes of bytes: JSON.
    assert [json.loads(each) for each in contents["class_names"].bytes_contents] == ["square"]
    assert json.loads(contents["masks"].bytes_contents[0])["size"] == [20, 30]


def test_options_and_outputs_over_grpc(calls: GrpcCalls) -> None:
    assert calls.infer(grey(51))["instances"]
    assert len(calls.infer(grey(51), masks=b"none")["instances"][0]) == 5
    assert "picture" in calls.infer(grey(51), draw=b"jpeg")
    answer = calls.answer(image=grey(51), outputs=b"classes")
    assert [each.name for each in answer.outputs] == ["classes"]


def test_errors_over_grpc(calls: GrpcCalls) -> None:
    """The answer is OK, with one output that no other answer has."""

    def code(**inputs: bytes) -> str:
        (output,) = calls.answer(**inputs).outputs
        assert (output.name, output.datatype, list(output.shape)) == ("error", "BYTES", [1])
        return str(json.loads(output.contents.bytes_contents[0])["error"]["code"])

    assert code(image=b"bad") == "unsupported_image_format"
    assert code(image=grey(51), masks=b"some") == "invalid_option"
    assert code(image=grey(51), outputs=b"logits") == "invalid_option"
    assert code() == "empty_request"


def test_pixels_over_grpc(calls: GrpcCalls) -> None:
    array = pixels_of(51)
    expected = calls.answer(image=grey(51)).outputs
    answer = calls.of(calls.tensor("image", "UINT8", array.shape, array.ravel().tolist()))
    assert answer.outputs == expected
    for wrong in ([256] + [0] * 1799, [2**32 - 1] * 1800, []):
        (output,) = calls.of(calls.tensor("image", "UINT8", array.shape, wrong)).outputs
        assert output.name == "error"


def test_raw_contents_over_grpc_are_dropped_by_torchserve(calls: GrpcCalls) -> None:
    request = calls.tensor("image", "UINT8", (20, 30, 3), [])
    request.raw_input_contents.append(pixels_of(51).tobytes())
    (output,) = calls.of(request).outputs
    message = json.loads(output.contents.bytes_contents[0])["error"]["message"]
    assert "TorchServe drops raw contents" in message


def test_calls_share_batches_with_other_requests(stranger: Sender, calls: GrpcCalls) -> None:
    """The program answers as the class how many images it was given at once."""

    def call(value: int) -> list[int]:
        data = base64.b64encode(grey(value)).decode()
        wish = {"inputs": [{**FILE, "data": [data]}]}
        return list(tensors(stranger.post(INFER, json=wish))["classes"])

    def pixels(value: int) -> list[int]:
        tensor = calls.tensor("image", "UINT8", (20, 30, 3), pixels_of(value).ravel().tolist())
        return list(calls.of(tensor).outputs[3].contents.int64_contents)

    def corrupt(_: int) -> list[int]:
        bad = {"inputs": [{**FILE, "data": ["AAAA"]}]}
        refusal(stranger.post(INFER, json=bad), 415, "unsupported_image_format")
        return []

    def plain(value: int) -> list[int]:
        return [each["category_id"] for each in stranger.image(grey(value)).json()["instances"]]

    classes = []
    with ThreadPoolExecutor(BATCH) as pool:
        for _ in range(5):
            started = [pool.submit(each, 51) for each in (call, corrupt, pixels, plain)]
            classes.append([each.result() for each in started])
    assert [[3], [], [3], [3]] in classes


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"inputs": []}, 400, "empty_request"),
    ({"inputs": [{}]}, 400, "invalid_image"),
    ({"inputs": "x"}, 400, "empty_request"),
    ({"inputs": [FILE, FILE]}, 400, "empty_request"),
    ({"inputs": [{**FILE, "data": "x"}]}, 400, "invalid_image"),
    ({"inputs": [{**FILE, "datatype": "FP32"}]}, 400, "invalid_image"),
    ({"inputs": [{**FILE, "shape": [2]}]}, 400, "invalid_image"),
    ({"inputs": [{**FILE, "parameters": {"channel_order": "BGR"}}]}, 400, "invalid_image"),
    ({"inputs": [{**FILE, "data": ["no base64"]}]}, 400, "invalid_image"),
    ({"inputs": [FILE], "id": "\ud800"}, 400, "invalid_option"),
    ({"inputs": [FILE], "id": "x" * 7_000_000}, 400, "invalid_option"),
    ({"inputs": [FILE], "parameters": {"naïve\n": 1}}, 400, "invalid_option"),
    ({"inputs": [FILE], "parameters": []}, 400, "invalid_option"),
    ({"inputs": [FILE], "outputs": [{"name": "\ud800"}]}, 400, "invalid_option"),
    ({"inputs": [FILE], "outputs": "boxes"}, 400, "invalid_option"),
]


def test_calls_that_are_refused(stranger: Sender) -> None:
    headers = {"content-type": "application/json"}
    for request, status, code in WRONG:
        content = json.dumps(request)  # httpx would not write surrogates
        refusal(stranger.post(INFER, content=content, headers=headers), status, code)


def test_what_torchserve_answers_itself(stranger: Sender, calls: GrpcCalls) -> None:
    """As docs/requests.md says it."""

    def get(path: str) -> tuple[int, Any]:
        response = stranger.http.get(path)
        return response.status_code, response.json()

    status, server = get("/v2")
    assert (status, server["name"]) == (200, "Torchserve")
    assert get("/v2/health/live") == (200, {"live": True})
    assert get("/v2/health/ready") == (200, {"ready": True})
    assert [get(f"/v2/models/shapes{path}")[0] for path in ("", "/ready")] == [404, 404]
    assert get("/v2/models/shapes/versions/1.0")[0] == 501
    assert calls.rpc("ServerLive").live
    assert calls.rpc("ServerReady").ready
    assert calls.rpc("ModelReady", name="shapes").ready
    metadata = calls.rpc("ModelMetadata", name="shapes")
    assert (metadata.name, list(metadata.versions)) == ("shapes", ["1.0"])
    assert not metadata.inputs
    assert not metadata.outputs
    with pytest.raises(grpc.RpcError, match="unimplemented"):
        calls.rpc("ServerMetadata")
    with pytest.raises(grpc.RpcError, match="Method not found"):
        calls.rpc("ServerLive", package="inference")  # as other servers name it


def test_a_model_describes_itself(stranger: Sender, server: TorchServeProcess) -> None:
    url = f"{server.management_address}/models/shapes"
    token = {"Authorization": f"Bearer {server.management_token}"}

    def describe(_: int = 0) -> Any:
        response = httpx.get(
            url, params={"customized": "true"}, headers=token, trust_env=False, timeout=60
        )
        assert response.status_code == 200
        said = response.json()[0]["customizedMetadata"]
        # How many there are and are busy differs from moment to moment.
        assert set(said.pop("workers")) == {"others", "busy"}
        return said

    described = describe()
    assert (described["name"], described["versions"]) == ("shapes", ["1.0"])
    assert described["inputs"][0] == {"name": "image", "datatype": "BYTES", "shape": [1]}
    assert [each["name"] for each in described["outputs"]] == [*DEFAULT, "reply"]
    assert described["class_names"][1] == "square"
    with ThreadPoolExecutor(8) as pool:  # in batches with images
        descriptions = [pool.submit(describe) for _ in range(8)]
        images = [pool.submit(stranger.image, grey(51)) for _ in range(8)]
        assert all(each.result() == described for each in descriptions)
        assert all(each.result().status_code == 200 for each in images)
