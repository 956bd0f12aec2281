"""A model repository of `d2serve package` under Triton's own server, asked by Triton's own clients.

The server is nvidia-pytriton's, which has the Python backend alone and no GPU here.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image
from tritonclient.utils import InferenceServerException

from d2serve.server.packaging.writing import package
from tests.conftest import ROOT
from tests.engines.reference import MODEL, Reference, without_id
from tests.engines.triton.running import Triton, running

HTTP, GRPC = "http", "grpc"
TRANSPORTS = (HTTP, GRPC)
TENSORS = ["image_size", "boxes", "scores", "classes", "class_names", "masks"]


@dataclass
class Client:
    """Triton's client of one transport."""

    transport: str
    address: str
    batched: bool = False

    def __post_init__(self) -> None:
        self._module = import_module(f"tritonclient.{self.transport}")
        several = {"concurrency": 8} if self.transport == HTTP else {}
        self.own = self._module.InferenceServerClient(self.address, **several)

    def input(self, name: str, datatype: str, values: np.ndarray[Any, Any]) -> Any:
        shaped = values[None] if self.batched else values
        made = self._module.InferInput(name, list(shaped.shape), datatype)
        made.set_data_from_numpy(shaped)
        return made

    def file(self, data: bytes) -> Any:
        return self.input("image", "BYTES", np.array([data], np.object_))

    def infer(
        self, inputs: Sequence[Any], outputs: Sequence[str] = (), **parameters: Any
    ) -> dict[str, np.ndarray[Any, Any]]:
        """The tensors of an answer, by name."""
        wanted = [self._module.InferRequestedOutput(each) for each in outputs] or None
        given = self.own.infer(MODEL, list(inputs), outputs=wanted, parameters=parameters or None)
        said = given.get_response()
        named = [each["name"] for each in said["outputs"]] if isinstance(said, dict) else None
        names = named or [each.name for each in said.outputs]
        return {name: given.as_numpy(name) for name in names}

    def refused(self, inputs: Sequence[Any], **parameters: Any) -> tuple[str, str]:
        """What a request fails with: the status and the message."""
        with pytest.raises(InferenceServerException) as error:
            self.infer(inputs, **parameters)
        return str(error.value.status()), str(error.value.message())


def text(name: str, *values: str) -> tuple[str, str, np.ndarray[Any, Any]]:
    return name, "BYTES", np.array([value.encode() for value in values], np.object_)


def boxes_in(reply: bytes) -> list[list[float]]:
    return [each["bbox"] for each in orjson.loads(reply)["instances"]]


@pytest.fixture(scope="module")
def models(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, _ = package(reference.archive, "triton", tmp_path_factory.mktemp("made"))
    return folder / "models"


@pytest.fixture(scope="module")
def triton(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """With two instances on any machine."""
    file = models / MODEL / "config.pbtxt"
    file.write_text(re.sub(r"count: \d+", "count: 2", file.read_text()))
    with running(models, tmp_path_factory.mktemp("triton")) as started:
        yield started


@pytest.fixture(params=TRANSPORTS)
def client(triton: Triton, request: pytest.FixtureRequest) -> Iterator[Client]:
    made = Client(request.param, getattr(triton, request.param))
    yield made
    made.own.close()  # a server that stops waits for connections


@pytest.fixture(scope="module")
def photo(reference: Reference) -> bytes:
    """One on which instances of more than one class and score are found."""
    counts = {name: len(boxes_in(reply)) for name, reply in reference.answers.items()}
    name = max(counts, key=lambda each: counts[each])
    assert counts[name] > 10
    return (reference.folder / "images" / name).read_bytes()


def test_metadata_name_what_the_archive_takes_and_answers(client: Client) -> None:
    said = client.own.get_model_metadata(MODEL)
    if client.transport == GRPC:
        said = {
            "versions": list(said.versions),
            "inputs": [
                {"name": each.name, "datatype": each.datatype, "shape": list(each.shape)}
                for each in said.inputs
            ],
            "outputs": [{"name": each.name} for each in said.outputs],
        }
    assert said["versions"] == ["1"]
    image, pixels = said["inputs"][:2]
    assert image == {"name": "image", "datatype": "BYTES", "shape": [1]}
    assert pixels == {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, 3]}
    assert [each["name"] for each in said["outputs"]] == [*TENSORS, "reply"]
    assert client.own.is_model_ready(MODEL)


def test_all_replies_are_torchserves(client: Client, reference: Reference) -> None:
    def asked(image: Path) -> bytes:
        answer = client.infer([client.file(image.read_bytes())], ["reply"])
        return bytes(answer["reply"][0])

    # gevent, on which Triton's HTTP client stands, is for one thread.
    with ThreadPoolExecutor(4 if client.transport == GRPC else 1) as threads:
        replies = dict(zip(reference.answers, threads.map(asked, reference.images), strict=True))
    assert len(replies) == 300
    assert sum(len(boxes_in(reply)) for reply in replies.values()) > 1000
    assert {name: without_id(reply) for name, reply in replies.items()} == reference.answers


def test_pixels_are_answered_like_the_file(client: Client, reference: Reference) -> None:
    compared = 0
    for image in reference.images[:10]:
        pixels = np.asarray(Image.open(image).convert("RGB"))
        as_png = BytesIO()
        Image.fromarray(pixels).save(as_png, "PNG")
        of_file = client.infer([client.file(as_png.getvalue())], ["reply"])["reply"][0]
        of_pixels = client.infer([client.input("pixels", "UINT8", pixels)], ["reply"])["reply"][0]
        assert without_id(of_pixels) == without_id(of_file)
        compared += len(boxes_in(of_pixels))
    assert compared > 20


def test_tensors_say_what_the_reply_says(client: Client, photo: bytes) -> None:
    found = client.infer([client.file(photo)])
    assert list(found) == TENSORS
    reply = client.infer([client.file(photo)], ["reply"])["reply"][0]
    said = orjson.loads(reply)
    assert found["boxes"].dtype == np.float32
    np.testing.assert_allclose(found["boxes"], boxes_in(reply), atol=0.01)
    assert found["classes"].tolist() == [each["category_id"] for each in said["instances"]]
    names = [each.decode() for each in found["class_names"]]
    assert names == [each["category_name"] for each in said["instances"]]
    masks = [orjson.loads(each) for each in found["masks"]]
    assert masks == [each["segmentation"] for each in said["instances"]]
    assert found["image_size"].tolist() == [said["image"]["height"], said["image"]["width"]]


def test_the_id_of_a_request_is_in_its_reply(client: Client, photo: bytes) -> None:
    inputs = [client.file(photo)]
    named = client.own.infer(MODEL, inputs, request_id="photo 7").as_numpy("image_size")
    assert named is not None
    module = import_module(f"tritonclient.{client.transport}")
    wanted = [module.InferRequestedOutput("reply")]
    given = client.own.infer(MODEL, inputs, outputs=wanted, request_id="photo 7")
    assert orjson.loads(given.as_numpy("reply")[0])["request_id"] == "photo 7"
    unnamed = [client.infer(inputs, ["reply"])["reply"][0] for _ in range(2)]
    assert len({orjson.loads(each)["request_id"] for each in unnamed}) == 2


def test_options_are_inputs_or_parameters(client: Client, photo: bytes) -> None:
    image = client.file(photo)
    everything = client.infer([image])
    scores = everything["scores"]
    half = float(np.median(scores))
    threshold = client.input("score_thresh", "FP32", np.array([half], np.float32))
    for found in (client.infer([image, threshold]), client.infer([image], score_thresh=half)):
        assert 0 < len(found["scores"]) < len(scores)
        assert found["scores"].tolist() == scores[scores > half].tolist()
    three = client.input("max_detections", "INT64", np.array([3], np.int64))
    assert len(client.infer([image, three])["boxes"]) == 3
    assert len(client.infer([image], max_detections=3)["boxes"]) == 3
    circles = client.infer([image, client.input(*text("classes", "circle", "2"))])
    assert {each.decode() for each in circles["class_names"]} < {"circle", "rectangle", "triangle"}
    unmasked = client.infer([image], masks="none")
    assert list(unmasked) == TENSORS[:-1]
    named = client.infer([image, client.input(*text("outputs", "scores", "reply"))])
    assert list(named) == ["scores", "reply"]
    (picture,) = client.infer([image, client.input(*text("draw", "png"))]).values()
    assert orjson.loads(picture[0])["content_type"] == "image/png"


def test_bad_requests_are_told_so_and_harm_no_other(client: Client, photo: bytes) -> None:
    invalid = {HTTP: "400", GRPC: "StatusCode.INVALID_ARGUMENT"}[client.transport]
    image, pixels = client.file(photo), client.input("pixels", "UINT8", np.zeros((9, 9, 3), "u1"))
    two = client.input("image", "BYTES", np.array([photo, photo], np.object_))
    options = [client.input(*text("masks", "none")), client.input(*text("draw", "png"))]
    wrong: list[tuple[list[Any], dict[str, Any], str]] = [
        ([client.file(b"no picture")], {}, "unsupported_image_format: "),
        ([client.file(photo[:200])], {}, "invalid_image: "),
        ([client.file(b"")], {}, "empty_request: "),
        (options, {}, "empty_request: "),
        ([image, pixels], {}, "empty_request: "),
        ([two], {}, "expected shape"),
        ([image], {"score_thresh": 7}, "invalid_option: "),
        ([image], {"no_option": 1}, "invalid_option: "),
        ([image, client.input(*text("classes", "horse"))], {}, "invalid_option: "),
    ]
    for inputs, parameters, told in wrong:
        status, message = client.refused(inputs, **parameters)
        assert status == invalid, message
        assert told in message
    status, message = client.refused([image], deadline=str(time.time() - 5))
    assert status == {HTTP: "400", GRPC: "StatusCode.CANCELLED"}[client.transport]
    assert message.startswith("deadline_exceeded: ")
    assert len(client.infer([image])["boxes"]) > 10


def test_both_instances_answer(triton: Triton, photo: bytes) -> None:
    client = Client(GRPC, triton.grpc)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: client.infer([client.file(photo)]), range(24)))
    log = triton.log.read_text()
    assert f"{MODEL}_0_0" in log
    assert f"{MODEL}_0_1" in log
    stubs = stubs_of(triton)
    assert len(stubs) == 2
    for pid in stubs:
        assert _cpu_ticks(pid) > 20


def test_a_dead_instance_is_seen_by_requests_alone_and_replaced_by_loading_anew(
    models: Path, photo: bytes, tmp_path: Path
) -> None:
    # With a dead instance a model is never unloaded whole, for which the end would wait.
    options = ("--model-control-mode=explicit", "--load-model=*", "--exit-timeout-secs=2")
    with running(models, tmp_path, *options) as triton:
        client = Client(GRPC, triton.grpc)
        inputs = [client.file(photo)]
        client.infer(inputs)
        os.kill(min(stubs_of(triton)), signal.SIGKILL)
        seen, told = list[int](), set[str]()
        for _ in range(6):
            try:
                seen.append(len(client.infer(inputs)["boxes"]))
            except InferenceServerException as error:
                told.add(str(error.message()).partition("'")[0])
                seen.append(0)
        assert told == {"Stub process "}
        assert max(seen) > 10
        assert client.own.is_model_ready(MODEL)
        client.own.unload_model(MODEL)
        client.own.load_model(MODEL)
        found = [len(client.infer(inputs)["boxes"]) for _ in range(6)]
        client.own.close()
    assert min(found) > 10


def stubs_of(triton: Triton) -> set[int]:
    """The processes of the instances."""
    return {
        int(file.parent.name)
        for file in Path("/proc").glob("[0-9]*/comm")
        if _is_stub_of(triton.process.pid, file)
    }


def _is_stub_of(server: int, comm: Path) -> bool:
    try:
        parent = int(comm.with_name("stat").read_text().rpartition(")")[2].split()[1])
        return parent == server and comm.read_text().startswith("triton_python")
    except OSError:  # it has just ended
        return False


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_stop_answers_what_was_asked(models: Path, photo: bytes, tmp_path: Path) -> None:
    with running(models, tmp_path) as triton, ThreadPoolExecutor(8) as threads:
        client = Client(GRPC, triton.grpc)
        client.infer([client.file(photo)])
        asked = [threads.submit(client.infer, [client.file(photo)]) for _ in range(8)]
        time.sleep(0.1)
        triton.process.terminate()
        found = [each.result() for each in asked]
        assert triton.process.wait(60) == 0
    assert len(found) == 8
    assert all(len(each["boxes"]) > 10 for each in found)


def test_requests_are_joined_where_the_configuration_says_so(
    reference: Reference, tmp_path: Path
) -> None:
    """As of programs that take several images; this one takes one, so it is asked for each."""
    folder, _ = package(reference.archive, "triton", tmp_path)
    file = folder / "models" / MODEL / "config.pbtxt"
    joined = "max_batch_size: 8\ndynamic_batching { max_queue_delay_microseconds: 100000 }"
    told = file.read_text().replace("max_batch_size: 0", joined)
    file.write_text(re.sub(r"count: \d+", "count: 1", told))
    (tmp_path / "run").mkdir()
    with running(folder / "models", tmp_path / "run") as triton:
        client = Client(GRPC, triton.grpc, batched=True)

        def asked(image: Path) -> bytes | str:
            data = b"no picture" if image is reference.images[3] else image.read_bytes()
            try:
                answer = client.infer([client.file(data)], ["reply"])
            except InferenceServerException as error:
                return str(error.message())
            assert answer["reply"].shape == (1, 1)
            return bytes(answer["reply"][0, 0])

        images = reference.images[:16]
        with ThreadPoolExecutor(8) as threads:
            replies = list(threads.map(asked, images))
        statistics = client.own.get_inference_statistics(MODEL).model_stats[0]
        boxes = client.infer([client.file(images[0].read_bytes())])["boxes"]
    assert statistics.execution_count < 12
    for image, reply in zip(images, replies, strict=True):
        if image is reference.images[3]:
            assert str(reply).startswith("unsupported_image_format: ")
        else:
            assert without_id(reply) == reference.answers[image.name]  # type: ignore[arg-type]
    assert boxes.shape == (1, len(boxes_in(reference.answers[images[0].name])), 4)


def test_the_page_is_right(triton: Triton, models: Path, photo: bytes, tmp_path: Path) -> None:
    """Its commands name what is written, and its client runs as it stands."""
    page = (ROOT / "docs" / "triton.md").read_text()
    shell, python = re.findall(r"```(?:bash|python)\n(.*?)```", page, re.DOTALL)
    assert "d2serve package model_store/shapes.mar --for triton\n" in shell
    made = models.parent
    for option in re.findall(r"shapes-triton(/\S+)", shell):
        assert (made / option[1:]).exists()
    (tmp_path / "photo.jpg").write_bytes(photo)
    code = python.replace("127.0.0.1:8001", triton.grpc).replace('"shapes"', f'"{MODEL}"')
    assert code.count(MODEL) == 1
    run: dict[str, Any] = {}
    exec(compile(code.replace("photo.jpg", str(tmp_path / "photo.jpg")), "page", "exec"), run)
    assert len(run["answer"].as_numpy("boxes")) > 10
