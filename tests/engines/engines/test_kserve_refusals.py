"""What KServe's server refuses, over both protocols alike; nothing is an error of its own."""

from __future__ import annotations

import base64
import http.client
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from d2serve.server.kserve.library import messages
from tests.engines.engines.kserve_running import KServe, infer_request, running
from tests.engines.reference import MODEL, Reference

INFER = f"/v2/models/{MODEL}/infer"
Code = grpc.StatusCode


def picture(width: int, height: int, format: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (90, 60, 30)).save(file, format, **options)
    return file.getvalue()


SMALL = picture(32, 32)
FIRST = f"/v1/models/{MODEL}:predict"


@pytest.fixture(scope="module")
def server(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KServe]:
    with running(tmp_path_factory.mktemp("kserve"), reference.archive) as started:
        yield started


def in_json(jpeg: bytes = SMALL, **more: Any) -> dict[str, Any]:
    text = base64.b64encode(jpeg).decode()
    return {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}],
        **more,
    }


def over_grpc(server: KServe, request: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    with server.stub() as stub:
        try:
            stub.ModelInfer(request, timeout=60, **options)
        except grpc.RpcError as error:
            return error.code(), error.details() or ""
    return Code.OK, ""


def parameters(**given: str) -> dict[str, Any]:
    return {name: messages.InferParameter(string_param=each) for name, each in given.items()}


def number(name: str, datatype: str, shape: list[int], **contents: list[Any]) -> Any:
    tensor = messages.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return tensor


TRUNCATED = picture(640, 480, quality=95)[:-900]
HUGE = picture(12000, 5000, "PNG")
"""60 megapixels, in few bytes."""
ABOUT_IMAGES = {
    "no image file": (b"nothing that is one", 415, Code.INVALID_ARGUMENT, "unsupported_image"),
    "half a file": (TRUNCATED, 400, Code.INVALID_ARGUMENT, "invalid_image"),
    "too many pixels": (HUGE, 413, Code.RESOURCE_EXHAUSTED, "image_too_large"),
    "too many bytes": (SMALL + bytes(33 << 20), 413, Code.RESOURCE_EXHAUSTED, "image_too_large"),
    "empty": (b"", 400, Code.INVALID_ARGUMENT, "empty_request"),
}


@pytest.mark.parametrize("case", ABOUT_IMAGES)
def test_images_that_are_refused(server: KServe, case: str) -> None:
    image, status, code, told = ABOUT_IMAGES[case]
    answer = server.ask(INFER, json=in_json(image))
    assert (answer.status_code, set(answer.json())) == (status, {"error"}), answer.text
    assert answer.json()["error"].startswith(told)
    got, details = over_grpc(server, infer_request(MODEL, image))
    assert (got, details.startswith(told)) == (code, True), details
    said = server.ask(
        f"/v1/models/{MODEL}:predict",
        json={"instances": [{"image": base64.b64encode(image).decode()}]},
    )
    assert said.status_code == status
    assert said.json()["error"].startswith(told)


OPTIONS = {
    "an option that does not exist": {"threshold": "0.5"},
    "a value that it cannot have": {"score_thresh": "2"},
    "no number": {"max_detections": "many"},
    "a class that there is not": {"classes": "unicorn"},
    "a deadline that is none": {"deadline": "30"},
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_are_refused(server: KServe, case: str) -> None:
    answer = server.ask(INFER, json=in_json(parameters=OPTIONS[case]))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].startswith("invalid_option: ")
    request = infer_request(MODEL, SMALL, parameters=parameters(**OPTIONS[case]))
    assert over_grpc(server, request)[0] == Code.INVALID_ARGUMENT
    in_v1 = {"image": base64.b64encode(SMALL).decode(), **OPTIONS[case]}
    said = server.ask(f"/v1/models/{MODEL}:predict", json={"instances": [in_v1]})
    assert (said.status_code, said.json()["error"][:15]) == (400, "invalid_option:")


def test_models_and_versions_that_there_are_not(server: KServe) -> None:
    for model, version in (("other", ""), (MODEL, "7.5")):
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
        for answer in (
            server.ask(f"{path}/infer", json=in_json()),
            httpx.get(f"{server.rest}{path}"),
            httpx.get(f"{server.rest}{path}/ready"),
        ):
            assert (answer.status_code, set(answer.json())) == (404, {"error"})
            assert MODEL in answer.json()["error"]
        assert over_grpc(server, infer_request(model, SMALL, version))[0] == Code.NOT_FOUND
        named = {"name": model, "version": version}
        with server.stub() as stub:
            for call, request in (
                (stub.ModelReady, messages.ModelReadyRequest(**named)),
                (stub.ModelMetadata, messages.ModelMetadataRequest(**named)),
            ):
                with pytest.raises(grpc.RpcError) as error:
                    call(request)
                assert error.value.code() == Code.NOT_FOUND
    answer = server.ask("/v1/models/other:predict", json={"instances": [{"b64": ""}]})
    assert answer.status_code == 404


def test_inputs_that_are_none(server: KServe) -> None:
    image = in_json()["inputs"][0]
    call: dict[str, Any]
    for call in (
        {},
        {"inputs": []},
        {"inputs": [{**image, "shape": [2]}]},
        {"inputs": [{**image, "datatype": "FP16"}]},
        {"inputs": [image, image]},
        in_json(outputs=[{"name": "logits"}]),
        in_json(id="x" * 2000),
    ):
        answer = server.ask(INFER, json=call)
        assert (answer.status_code, set(answer.json())) == (400, {"error"}), call
    assert server.ask(INFER, content=b"{nope").status_code == 400
    assert server.ask(f"{INFER}?score_thresh=2", json=in_json()).status_code == 400


def test_contents_that_do_not_fit(server: KServe) -> None:
    good = infer_request(MODEL, SMALL)
    both = messages.ModelInferRequest()
    both.CopyFrom(good)
    both.inputs[0].contents.bytes_contents.append(SMALL)
    two_raw = messages.ModelInferRequest()
    two_raw.CopyFrom(good)
    two_raw.raw_input_contents.append(b"")
    wrong_field = number("image", "BYTES", [1], int_contents=[1])
    cases = {
        "both kinds of contents": both,
        "more contents than inputs": two_raw,
        "contents of another type": messages.ModelInferRequest(
            model_name=MODEL, inputs=[wrong_field]
        ),
        "pixels that are no bytes": messages.ModelInferRequest(
            model_name=MODEL,
            inputs=[number("image", "UINT8", [1, 1, 3], uint_contents=[1, 2, 300])],
        ),
        "no inputs": messages.ModelInferRequest(model_name=MODEL),
        "a datatype that is not read": messages.ModelInferRequest(
            model_name=MODEL, inputs=[number("image", "FP16", [1])]
        ),
        "fewer pixels than the shape": messages.ModelInferRequest(
            model_name=MODEL, inputs=[number("image", "UINT8", [2, 2, 3], uint_contents=[1])]
        ),
        "a parameter without a value": messages.ModelInferRequest(
            model_name=MODEL,
            inputs=good.inputs,
            raw_input_contents=good.raw_input_contents,
            parameters={"score_thresh": messages.InferParameter()},
        ),
        "an output that there is not": infer_request(MODEL, SMALL, outputs=[{"name": "logits"}]),
    }
    got = {name: over_grpc(server, request)[0] for name, request in cases.items()}
    assert got == dict.fromkeys(cases, Code.INVALID_ARGUMENT)


def test_bodies_that_are_too_large_are_not_kept(server: KServe) -> None:
    # One that only says so: nothing of it is sent.
    connection = http.client.HTTPConnection(server.rest.removeprefix("http://"), timeout=20)
    connection.putrequest("POST", INFER)
    connection.putheader("Content-Length", str(10 << 30))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert "error" in json.loads(answer.read())
    connection.close()
    # One that is sent: whoever sends it gets to know why, and no broken connection.
    for path in (INFER, FIRST, INFER, FIRST):
        answers = [server.ask(path, content=bytes(size << 20)) for size in (65, 150)]
        assert [each.status_code for each in answers] == [413, 413]
    code, _ = over_grpc(server, infer_request(MODEL, bytes(70 << 20)))
    assert code == Code.RESOURCE_EXHAUSTED
    # 300 MB of zeros, which are few bytes on their way.
    bomb = infer_request(MODEL, bytes(300 << 20))
    assert over_grpc(server, bomb, compression=grpc.Compression.Gzip)[0] == Code.RESOURCE_EXHAUSTED


def test_deadlines_that_are_over(server: KServe) -> None:
    answer = server.ask(INFER, json=in_json(), headers={"X-Request-Deadline": str(time.time() - 1)})
    assert answer.status_code == 504
    assert answer.json()["error"].startswith("deadline_exceeded")
    late = (("x-request-deadline", str(time.time() - 1)),)
    assert (
        over_grpc(server, infer_request(MODEL, SMALL), metadata=late)[0] == Code.DEADLINE_EXCEEDED
    )


def test_nobody_unloads_a_model(server: KServe) -> None:
    for verb in ("load", "unload"):
        path = f"/v2/repository/models/{MODEL}/{verb}"
        answer = server.ask(path, json={})
        assert (answer.status_code, set(answer.json())) == (404, {"error"})
    with server.stub() as stub:
        for call, request in (
            ("RepositoryModelLoad", messages.RepositoryModelLoadRequest(model_name=MODEL)),
            ("RepositoryModelUnload", messages.RepositoryModelUnloadRequest(model_name=MODEL)),
        ):
            with pytest.raises(grpc.RpcError) as error:
                getattr(stub, call)(request)
            assert error.value.code() == Code.UNIMPLEMENTED
    assert server.ask(INFER, json=in_json()).status_code == 200


def test_calls_of_the_first_protocol_that_are_none(server: KServe) -> None:
    good = {"image": base64.b64encode(SMALL).decode()}
    call: Any
    for call in (
        b"",
        b"[1]",
        {"instances": {}},
        {"instances": []},
        {"instances": [5]},
        {"instances": [{"label": 1}]},
        {"instances": [{**good, "data": ""}]},
        {"instances": [good], "score_thresh": 0.5},
        {"instances": [{"image": {"b64": "!"}}]},
        {"instances": [{"image": {"url": "http://127.0.0.1/"}}]},
    ):
        sent: Any = {"content": call} if isinstance(call, bytes) else {"json": call}
        answer = server.ask(FIRST, **sent)
        assert (answer.status_code, set(answer.json())) == (400, {"error"}), call
    second = server.ask(FIRST, json={"instances": [good, {"image": "bm8="}]})
    assert second.status_code == 415
    assert "(instance 2 of 2)" in second.json()["error"]
    assert server.ask(f"/v1/models/{MODEL}:explain", json={}).status_code in (404, 501)


NAMES = (
    *("id", "inputs", "outputs", "parameters", "name", "datatype", "shape", "data", "image", "b64"),
    *("binary_data", "binary_data_output", "binary_data_size", "instances", "deadline", "draw"),
    *("score_thresh", "masks"),
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["image", "BYTES", "UINT8", "boxes", "reply", base64.b64encode(SMALL).decode()]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
FUZZED = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@FUZZED
@given(st.data())
def test_no_call_over_rest_is_an_error_of_the_server(server: KServe, data: st.DataObject) -> None:
    call = in_json()
    for name in data.draw(st.sets(st.sampled_from(["id", "inputs", "outputs", "parameters"]))):
        call[name] = data.draw(ANYTHING)
    if data.draw(st.booleans()):
        image = call["inputs"][0] if isinstance(call["inputs"], list) and call["inputs"] else None
        if isinstance(image, dict):
            image[data.draw(st.sampled_from(["name", "datatype", "shape", "data"]))] = data.draw(
                ANYTHING
            )
    body = json.dumps(call).encode() + data.draw(st.binary(max_size=20))
    headers = {"Content-Type": data.draw(st.sampled_from(["application/json", "image/jpeg", "x"]))}
    if data.draw(st.booleans()):
        headers["Inference-Header-Content-Length"] = str(data.draw(st.integers(-1, len(body) + 5)))
    if data.draw(st.integers(0, 9)) == 0:
        headers["Content-Encoding"] = data.draw(st.sampled_from(["gzip", "br", "deflate"]))
    path = data.draw(st.sampled_from([INFER, INFER, INFER, FIRST, f"/predictions/{MODEL}"]))
    answer = server.ask(path, content=body, headers=headers)
    assert answer.status_code < 500, (answer.text, body, headers)
    if answer.status_code != 200 and "predictions" not in path:
        assert isinstance(answer.json()["error"], str)


@FUZZED
@given(st.data())
def test_no_call_over_grpc_is_an_error_of_the_server(server: KServe, data: st.DataObject) -> None:
    request = infer_request(MODEL, SMALL)
    draw = data.draw
    if draw(st.booleans()):
        request.raw_input_contents[0] = draw(st.binary(max_size=50))
    for _ in range(draw(st.integers(0, 2))):
        values = draw(st.lists(st.integers(0, 400), max_size=12))
        field = draw(st.sampled_from(["uint_contents", "int_contents", "fp32_contents"]))
        name = draw(st.sampled_from(["image", "score_thresh", "outputs", "é"]))
        datatype = draw(st.sampled_from(["UINT8", "INT8", "FP32", "FP16", "BYTES", ""]))
        shape = draw(st.lists(st.integers(-1, 4), max_size=4))
        request.inputs.append(number(name, datatype, shape, **{field: values}))
        if draw(st.booleans()):
            del request.raw_input_contents[:]
    for name in draw(st.lists(st.sampled_from(["boxes", "reply", "x", ""]), max_size=3)):
        output = request.outputs.add(name=name)
        if draw(st.booleans()):
            output.parameters["binary_data"].bool_param = False
    for name in draw(st.sets(st.sampled_from(["draw", "masks", "binary_data_output", "deadline"]))):
        request.parameters[name].string_param = draw(st.sampled_from(["png", "none", "", "é\x00"]))
    request.id = draw(st.text(max_size=5))
    code, details = over_grpc(server, request)
    assert code in (Code.OK, Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED), details


def test_pixels_are_taken_in_every_form(server: KServe) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    tensor = {"name": "image", "datatype": "UINT8", "shape": [48, 64, 3]}
    wanted = {"outputs": [{"name": "boxes"}, {"name": "scores"}]}
    listed = server.ask(INFER, json={"inputs": [{**tensor, "data": rgb.tolist()}], **wanted}).json()
    typed = messages.ModelInferRequest(
        model_name=MODEL,
        inputs=[number("image", "UINT8", [48, 64, 3], uint_contents=rgb.ravel().tolist())],
        **wanted,
    )
    raw = messages.ModelInferRequest(
        model_name=MODEL, inputs=[tensor], raw_input_contents=[rgb.tobytes()], **wanted
    )
    with server.stub() as stub:
        of_typed, of_raw = stub.ModelInfer(typed), stub.ModelInfer(raw)
    boxes, scores = (each["data"] for each in listed["outputs"])
    assert np.frombuffer(of_raw.raw_output_contents[0], "<f4").tolist() == pytest.approx(boxes)
    assert list(of_typed.outputs[0].contents.fp32_contents) == pytest.approx(boxes)
    assert list(of_typed.outputs[1].contents.fp32_contents) == pytest.approx(scores)
    assert not of_typed.raw_output_contents
