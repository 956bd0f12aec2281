"""How KServe's server runs: large images, several models and processes, deadlines, its end."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image

from d2serve.handlers.bundle import MANIFEST
from d2serve.server.kserve.library import messages
from tests.engines.engines.kserve_running import KServe, free_ports, infer_request, running
from tests.engines.reference import MODEL, Reference, without_id

INFER = f"/v2/models/{MODEL}/infer"
SANE_SECONDS = 20.0
"""For 50 megapixels on two cores that others use as well. Pixels alone took 10.6 s in KServe."""


def picture(width: int, height: int, noise: int) -> bytes:
    """A JPEG file of which so many rows are noise."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[:noise] = np.random.default_rng(0).integers(0, 256, (noise, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.fixture(scope="module")
def large() -> bytes:
    """50 megapixels in more bytes than KServe's server takes over gRPC by itself."""
    file = picture(8000, 6250, 1500)
    assert 8 << 20 < len(file) < 32 << 20
    return file


def of_version(archive: Path, version: str, folder: Path) -> Path:
    """The same archive with another version in its manifest."""
    made = folder / f"{archive.stem}-{version}.mar"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == MANIFEST:
                manifest = json.loads(content)
                manifest["model"]["modelVersion"] = version
                content = json.dumps(manifest).encode()
            new.writestr(name, content)
    return made


@pytest.fixture(scope="module")
def server(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KServe]:
    folder = tmp_path_factory.mktemp("kserve")
    second = of_version(reference.archive, "2.0", folder)
    other = f"other={reference.archive}"
    with running(folder, reference.archive, second, other) as started:
        yield started


def in_json(jpeg: bytes, **more: Any) -> dict[str, Any]:
    text = base64.b64encode(jpeg).decode()
    return {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}],
        **more,
    }


def in_binary(tensor: dict[str, Any], content: bytes, **more: Any) -> dict[str, Any]:
    tensor = {**tensor, "parameters": {"binary_data_size": len(content)}}
    start = json.dumps({"inputs": [tensor], **more}).encode()
    headers = {"Inference-Header-Content-Length": str(len(start))}
    return {"content": start + content, "headers": headers}


def test_fifty_megapixels(server: KServe, large: bytes) -> None:
    began = time.monotonic()
    file = {"name": "image", "datatype": "BYTES", "shape": [1]}
    over_rest = server.ask(INFER, **in_binary(file, len(large).to_bytes(4, "little") + large))
    assert over_rest.status_code == 200, over_rest.text
    half = time.monotonic()
    with server.stub() as stub:
        over_grpc = stub.ModelInfer(infer_request(MODEL, large))
    assert half - began < SANE_SECONDS
    assert time.monotonic() - half < SANE_SECONDS
    outputs = {each["name"]: each for each in over_rest.json()["outputs"]}
    assert outputs["image_size"]["data"] == [6250, 8000]
    boxes = np.frombuffer(over_grpc.raw_output_contents[1], "<f4")
    assert boxes.tolist() == pytest.approx(outputs["boxes"]["data"])


def test_six_megapixels_as_pixels(server: KServe) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), np.uint8)
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(rgb.shape)}
    wanted = {"outputs": [{"name": "image_size"}]}
    began = time.monotonic()
    over_rest = server.ask(INFER, **in_binary(tensor, rgb.tobytes(), **wanted))
    assert over_rest.json()["outputs"][0]["data"] == [2000, 3000]
    raw = messages.ModelInferRequest(
        model_name=MODEL, inputs=[tensor], raw_input_contents=[rgb.tobytes()], **wanted
    )
    typed = messages.ModelInferRequest(model_name=MODEL, inputs=[tensor], **wanted)
    typed.inputs[0].contents.uint_contents.extend(rgb.ravel())
    with server.stub() as stub:
        for request in (raw, typed):
            assert stub.ModelInfer(request).outputs[0].name == "image_size"
    assert time.monotonic() - began < SANE_SECONDS


def test_models_and_versions(reference: Reference, server: KServe) -> None:
    image = reference.images[0]
    wanted = {"outputs": [{"name": "reply"}]}
    expected = json.loads(reference.answers[image.name])

    def replies(model: str, version: str) -> Iterator[dict[str, Any]]:
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
        answer = server.ask(f"{path}/infer", json=in_json(image.read_bytes(), **wanted))
        yield json.loads(answer.json()["outputs"][0]["data"][0])
        with server.stub() as stub:
            call = infer_request(model, image.read_bytes(), version, **wanted)
            yield json.loads(stub.ModelInfer(call).raw_output_contents[0][4:])

    for model, version, meant in (
        (MODEL, "", "1.0"),
        (MODEL, "1.0", "1.0"),
        (MODEL, "2.0", "2.0"),
        ("other", "", "1.0"),
    ):
        for reply in replies(model, version):
            assert (reply["model"], reply["version"]) == (model, meant)
            assert reply["instances"] == expected["instances"]


def test_what_it_says_of_itself(server: KServe) -> None:
    def told(path: str) -> Any:
        answer = httpx.get(server.rest + path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert told("/v2")["extensions"] == ["binary_tensor_data", "parameters"]
    assert told("/v2/health/live") == {"live": True}
    assert told("/v2/health/ready") == {"ready": True}
    assert sorted(told("/v2/models")["models"]) == sorted([MODEL, "other"])
    assert sorted(told("/v1/models")["models"]) == sorted([MODEL, "other"])
    assert told("/v1/models/other")["ready"] in (True, "True")
    described = told(f"/v2/models/{MODEL}")
    assert described["versions"] == ["1.0", "2.0"]
    assert told(f"/v2/models/{MODEL}/versions/2.0") == described
    assert told(f"/v2/models/{MODEL}/versions/2.0/ready")["ready"] is True
    with server.stub() as stub:
        assert stub.ServerLive(messages.ServerLiveRequest()).live
        assert stub.ServerReady(messages.ServerReadyRequest()).ready
        assert stub.ServerMetadata(messages.ServerMetadataRequest()).name == "d2serve"
        assert stub.ModelReady(messages.ModelReadyRequest(name=MODEL, version="2.0")).ready
        metadata = stub.ModelMetadata(messages.ModelMetadataRequest(name=MODEL))
    assert list(metadata.versions) == described["versions"]
    assert metadata.platform == described["platform"] == "onnx_onnxv1"
    assert [(each.name, list(each.shape)) for each in metadata.outputs] == [
        (each["name"], each["shape"]) for each in described["outputs"]
    ]


def counted(server: KServe, name: str) -> float:
    """Of all models and codes."""
    text = httpx.get(f"{server.rest}/metrics").text
    return sum(
        float(each) for each in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    )


def test_metrics(reference: Reference, server: KServe) -> None:
    answered, rejected = "d2serve_decode_seconds_count", "d2serve_rejected_total"
    before = counted(server, answered), counted(server, rejected)
    assert server.ask(INFER, json=in_json(reference.images[0].read_bytes())).status_code == 200
    with server.stub() as stub:
        stub.ModelInfer(infer_request(MODEL, reference.images[0].read_bytes()))
    assert server.ask(INFER, json=in_json(b"none")).status_code == 415
    assert counted(server, answered) == before[0] + 2
    assert counted(server, rejected) == before[1] + 1


def test_options_over_grpc(reference: Reference, server: KServe) -> None:
    """Also a number with a point, of which KServe's messages know nothing, as Triton's client
    sends it: field 4 of a parameter."""
    image = reference.images[0].read_bytes()
    half = messages.InferParameter()
    half.MergeFromString(b"\x21" + np.float64(0.9).tobytes())

    def scores(**parameters: Any) -> list[float]:
        with server.stub() as stub:
            call = infer_request(MODEL, image, parameters=parameters, outputs=[{"name": "scores"}])
            answer = stub.ModelInfer(call)
        return list(np.frombuffer(answer.raw_output_contents[0], "<f4").tolist())

    everything = scores()
    above = [each for each in everything if each > 0.9]
    assert 0 < len(above) < len(everything)
    assert scores(score_thresh=half) == above
    assert scores(score_thresh=messages.InferParameter(string_param="0.9")) == above
    assert scores(max_detections=messages.InferParameter(int64_param=2)) == everything[:2]


def test_who_gives_up_costs_no_work(reference: Reference, server: KServe, large: bytes) -> None:
    """The two threads are busy with 50 megapixels each, so that what comes waits."""
    image = reference.images[0].read_bytes()
    before = server.told.count("answered:")
    with server.stub() as stub, ThreadPoolExecutor(12) as pool:
        busy = [pool.submit(stub.ModelInfer, infer_request(MODEL, large)) for _ in range(2)]
        time.sleep(0.3)
        impatient = [
            pool.submit(stub.ModelInfer, infer_request(MODEL, image), timeout=0.1) for _ in range(8)
        ]
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(server.rest + INFER, json=in_json(image), timeout=0.1)
        for each in impatient:
            error = each.exception()
            assert isinstance(error, grpc.RpcError)
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert all(each.result() for each in busy)
        stub.ModelInfer(infer_request(MODEL, image))
    time.sleep(0.2)
    assert server.told.count("answered:") == before + 3


def test_more_than_it_takes(reference: Reference, server: KServe, large: bytes) -> None:
    image = reference.images[0].read_bytes()
    with server.stub() as stub:
        busy = [stub.ModelInfer.future(infer_request(MODEL, large)) for _ in range(2)]
        asked = [stub.ModelInfer.future(infer_request(MODEL, image)) for _ in range(130)]
        codes = [each.code() for each in (*busy, *asked)]
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert codes.count(grpc.StatusCode.OK) >= 100
    assert codes.count(grpc.StatusCode.UNAVAILABLE) >= 20
    assert httpx.get(f"{server.rest}/v2/health/ready").status_code == 200


def test_health_is_told_while_the_model_works(server: KServe, large: bytes) -> None:
    with server.stub() as stub:
        busy = [stub.ModelInfer.future(infer_request(MODEL, large)) for _ in range(3)]
        slowest = 0.0
        while not all(each.done() for each in busy):
            began = time.monotonic()
            assert httpx.get(f"{server.rest}/v2/health/live").status_code == 200
            slowest = max(slowest, time.monotonic() - began)
        assert [each.code() for each in busy] == [grpc.StatusCode.OK] * 3
    assert slowest < 2


def test_the_end_answers_what_was_asked(reference: Reference, large: bytes, tmp_path: Path) -> None:
    name = "shapes"
    with running(tmp_path, reference.archive, "--name", name) as server:
        with server.stub() as stub, ThreadPoolExecutor(4) as pool:
            over_grpc = [stub.ModelInfer.future(infer_request(name, large)) for _ in range(3)]
            path = f"/v2/models/{name}/infer"
            over_rest = [pool.submit(server.ask, path, json=in_json(large)) for _ in range(2)]
            time.sleep(1.0)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{server.rest}/v2/health/live")
            assert [each.code() for each in over_grpc] == [grpc.StatusCode.OK] * 3
            assert [each.result().status_code for each in over_rest] == [200, 200]
        assert server.process.wait(30) == 0, server.told
    assert server.told.count("answered:") == 5
    assert "Traceback" not in server.told


def test_several_processes(reference: Reference, tmp_path: Path) -> None:
    images = reference.images[:40]
    with running(tmp_path, reference.archive.parent, "--workers", 2) as server:
        while server.told.count("Serving on") < 2:
            time.sleep(0.2)

        def ask(image: Path) -> None:
            answer = server.ask(
                f"/predictions/{MODEL}",
                content=image.read_bytes(),
                headers={"Content-Type": "image/jpeg"},
            )
            assert without_id(answer.content) == reference.answers[image.name]
            with server.stub() as stub:
                call = infer_request(MODEL, image.read_bytes(), outputs=[{"name": "reply"}])
                reply = stub.ModelInfer(call).raw_output_contents[0][4:]
            assert without_id(reply) == reference.answers[image.name]

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, images))
        workers = set(re.findall(r" (\d+) INFO .* answered:", server.told))
        assert len(workers) == 2
        assert counted(server, "d2serve_decode_seconds_count") == 2 * len(images)
        time.sleep(10)  # what dies sooner would die again
        (first, _) = (int(each) for each in workers)
        os.kill(first, signal.SIGKILL)
        while server.told.count("Serving on") < 3:
            time.sleep(0.2)
        assert f"Process {first} ended" in server.told
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, images[:10]))
        assert server.end() == 0
    assert "Traceback" not in server.told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing.mar",), "there is no such file"),
        (("{archive}", "{archive}", "--name", "a", "--http-port", "{taken}"), "Nothing can listen"),
        (("{archive}", "--http-port", "{free}", "--grpc-port", "{taken}"), "Nothing can listen"),
        (("a={archive}", "a={copy}"), "are both version 1.0 of a"),
        (("{empty}",), "has no .mar in it"),
    ],
)
def test_what_cannot_be_served(
    reference: Reference, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    copy, empty = tmp_path / "copy.mar", tmp_path / "empty"
    copy.write_bytes(reference.archive.read_bytes())
    empty.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ports = {"taken": listening.getsockname()[1], "free": free_ports(1)[0]}
        values = {"archive": reference.archive, "copy": copy, "empty": empty, **ports}
        words = [each.format(**values) for each in arguments]
        command = [sys.executable, "-m", "d2serve.server.kserve", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
