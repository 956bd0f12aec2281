"""TorchServe's contract: a reply for each request, whatever the request is, and no exception."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from ts.context import Context, RequestProcessor
from ts.utils.util import list_classes_from_module

from d2serve.handlers.detector import Detector
from d2serve.handlers.errors import LoadError
from d2serve.handlers.replies.reply import Reply
from d2serve.handlers.requests.request import Request, classify
from d2serve.handlers.service import Service
from d2serve.handlers.spec.limits import RequestLimits
from d2serve.handlers.torchserve import detection_handler
from d2serve.handlers.torchserve.detection_handler import DetectionHandler
from tests.handlers.programs import UNLUCKY, write_archive
from tests.handlers.samples import saved


def grey_png(value: int, width: int = 30, height: int = 20) -> bytes:
    return saved(Image.new("RGB", (width, height), (value, value, value)), "PNG")


class Worker:
    """A handler as a TorchServe worker uses it: with TorchServe's own context."""

    def __init__(self, archive: Path, gpu: int | None = None, **settings: Any) -> None:
        manifest = {"model": {"modelName": "archived", "modelVersion": "1.0"}}
        self.context = Context(
            "shapes", str(archive), manifest, 8, gpu, "0.12", model_yaml_config=settings
        )
        self.handler = DetectionHandler()
        self.handler.initialize(self.context)

    def answer(self, requests: Sequence[Any]) -> list[tuple[int, dict[str, Any]]]:
        """Status and parsed reply for each request."""
        http = {"Host": "127.0.0.1"}
        self.context.request_processor = [RequestProcessor(dict(http)) for _ in requests]
        replies = self.handler.handle(requests, self.context)
        assert isinstance(replies, list)
        assert len(replies) == len(requests)
        return [(self._status(i), json.loads(reply)) for i, reply in enumerate(replies)]

    def _status(self, index: int) -> int:
        assert self.context.get_response_content_type(index) == "application/json"
        status, phrase = self.context.get_response_status(index)
        if status != 200:  # anything else ends a TorchServe worker
            assert isinstance(phrase, str)
            assert phrase.isascii()
            assert phrase.isprintable()
        return int(status)


@pytest.fixture(params=["auto", "always"])
def worker(scripted_archive: Path, request: pytest.FixtureRequest) -> Worker:
    return Worker(scripted_archive, batching=request.param, maxWorkers=1)


def test_torchserve_finds_one_class_and_no_function() -> None:
    assert list_classes_from_module(detection_handler) == [DetectionHandler]
    assert not hasattr(detection_handler, "handle")
    assert callable(DetectionHandler.initialize)
    assert callable(DetectionHandler.handle)


def test_one_image(worker: Worker) -> None:
    ((status, reply),) = worker.answer([{"body": grey_png(51)}])
    assert status == 200
    assert reply["model"] == "shapes"
    assert reply["version"] == "1.0"
    assert reply["image"] == {"height": 20, "width": 30}
    (instance,) = reply["instances"]
    assert instance["bbox"] == [0, 0, 15, 10]
    assert instance["score"] == pytest.approx(0.2)


def test_an_empty_batch(worker: Worker) -> None:
    assert worker.answer([]) == []


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("name", ["data", "body"])
def test_fields_and_types_that_bring_an_image(worker: Worker, name: str, kind: Any) -> None:
    ((status, reply),) = worker.answer([{name: kind(grey_png(102)), "masks": kind(b"rle")}])
    assert status == 200
    assert reply["instances"][0]["score"] == pytest.approx(0.4)


def test_it_is_busy_while_it_answers_and_not_while_it_is_asked_whether_others_are(
    worker: Worker, scripted_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks, replies = [], Service.replies

    def watched(service: Service, requests: Sequence[Request]) -> list[Reply]:
        marks.append(next(scripted_archive.glob(".d2serve-worker-*")).read_bytes())
        return replies(service, requests)

    monkeypatch.setattr(Service, "replies", watched)
    worker.answer([{"body": grey_png(51)}])
    worker.context.request_processor = [RequestProcessor({"describe": "True"})]
    (described,) = worker.handler.handle([{}], worker.context)
    assert marks == [b"1", b"0"]
    assert json.loads(described)["workers"] == {"others": 0, "busy": 0}


# What TorchServe may hand over, beside what any server may: tests/handlers/test_service.py.
BAD_REQUESTS: list[tuple[Any, int, str]] = [
    ({}, 400, "empty_request"),
    ({"picture": grey_png(1)}, 400, "empty_request"),
    ({"body": None, "data": None}, 400, "empty_request"),
    ({"body": "naïve\r\nbytes".encode()}, 415, "unsupported_image_format"),
    ({"body": grey_png(UNLUCKY)}, 500, "model_failed"),
    ({"body": grey_png(9), "sem_seg": "naïve\ntext"}, 400, "invalid_option"),
    (None, 400, "empty_request"),
    ([1], 400, "empty_request"),
]


def test_a_bad_request_gets_its_own_status_and_harms_no_neighbour(worker: Worker) -> None:
    good = [51, 102, 255]
    batch: list[Any] = [{"body": grey_png(value)} for value in good]
    batch[1:1] = [request for request, _, _ in BAD_REQUESTS]
    answers = worker.answer(batch)
    bad, answers[1:-2] = answers[1:-2], []
    told = [(status, reply["error"]["code"]) for status, reply in bad]
    assert told == [(status, code) for _, status, code in BAD_REQUESTS]
    assert [each for each, _ in answers] == [200, 200, 200]
    scores = [each["instances"][0]["score"] for _, each in answers]
    assert scores == pytest.approx([value / 255 for value in good])


def test_a_status_does_not_stay_for_the_next_batch(worker: Worker) -> None:
    assert worker.answer([{"body": b"bad"}])[0][0] == 415
    assert worker.answer([{"body": grey_png(9)}])[0][0] == 200


def test_torchserves_bound_of_a_reply_holds(worker: Worker, scripted_archive: Path) -> None:
    assert worker.handler._service._max_reply_bytes == 6_553_500
    worker = Worker(scripted_archive, limits={"max_reply_bytes": 99})
    ((status, reply),) = worker.answer([{"body": grey_png(9)}])
    assert (status, reply["error"]["code"]) == (413, "reply_too_large")


def test_the_name_that_invocations_bring_is_no_option(worker: Worker) -> None:
    ((status, _),) = worker.answer([{"data": grey_png(9), "model_name": b"shapes"}])
    assert status == 200


def test_options_in_a_form_in_json_and_in_headers(worker: Worker) -> None:
    image = grey_png(51)
    body = {"image": base64.b64encode(image).decode(), "masks": "polygon"}
    requests: list[Any] = [{"data": image, "masks": b"polygon"}, {"body": body}, {"body": image}]
    worker.context.request_processor = [
        RequestProcessor({"Host": "x"}),
        RequestProcessor({"Host": "x"}),
        RequestProcessor({"Host": "x", "X-D2serve-Masks": "polygon"}),
    ]
    replies = [json.loads(reply) for reply in worker.handler.handle(requests, worker.context)]
    assert replies[0] == replies[1] == replies[2]
    (instance,) = replies[0]["instances"]
    assert instance["segmentation"] == [[0, 0, 15, 0, 15, 10, 0, 10]]


def test_the_content_type_of_a_picture(worker: Worker) -> None:
    worker.context.request_processor = [RequestProcessor({"Host": "x"})]
    worker.handler.handle([{"data": grey_png(51), "draw": b"png"}], worker.context)
    assert worker.context.get_response_content_type(0) == "image/png"


@pytest.mark.parametrize(
    ("fields", "headers", "asked"),
    [
        ({}, {"describe": "True"}, True),
        ({}, {"describe": "True", "Host": "x"}, True),
        ({}, {}, False),
        ({}, {"describe": {}}, False),
        ({"body": b""}, {"describe": "True"}, False),
    ],
)
def test_when_the_metadata_are_asked_for(
    worker: Worker, fields: Any, headers: Any, asked: bool
) -> None:
    worker.context.request_processor = [RequestProcessor(headers)]
    (reply,) = worker.handler.handle([fields], worker.context)
    assert ("versions" in json.loads(reply)) is asked


JSON_PART = {"body": {"content-type": "application/json"}}
FILE_PART = {"data": {"content-type": ""}}


@pytest.mark.parametrize(
    ("headers", "transport"),
    [
        ({}, "grpc"),
        (FILE_PART, "grpc"),
        ({**FILE_PART, "ts_request_sequence_id": "1"}, "grpc"),
        ({"Host": "127.0.0.1", **FILE_PART}, "http"),
        ({"content-length": "0", "body": {"content-type": ""}}, "http"),
    ],
)
def test_grpc_is_told_by_its_headers(
    worker: Worker, headers: dict[str, Any], transport: str
) -> None:
    worker.context.request_processor = [RequestProcessor(headers)]
    request = detection_handler._request({"data": b"x"}, 0, worker.context)
    assert request.transport == transport


@pytest.mark.parametrize(
    ("fields", "headers", "is_call"),
    [
        ({"body": {"inputs": []}}, JSON_PART, True),
        ({"body": {"inputs": []}}, {"Host": "x"}, True),
        ({"body": {}}, JSON_PART, True),
        ({"body": b"{nope"}, JSON_PART, True),
        ({"body": b"x"}, {"body": {"content-type": ""}}, False),
        ({"body": {"image": "aGk="}}, {"Host": "x", **JSON_PART}, False),
        ({"body": b"{nope"}, {"Host": "x", **JSON_PART}, False),
        ({"data": b"x"}, FILE_PART, False),
        ({}, {}, False),
        (None, {}, False),
    ],
)
def test_which_requests_are_calls_of_the_open_inference_protocol(
    worker: Worker, fields: Any, headers: dict[str, Any], is_call: bool
) -> None:
    worker.context.request_processor = [RequestProcessor(headers)]
    request = detection_handler._request(fields, 0, worker.context)
    assert (classify(request).kind == "infer") is is_call


@pytest.mark.parametrize("body", [grey_png(9), b"bad"])
def test_streaming_ends_with_the_reply_on_grpc_only(worker: Worker, body: bytes) -> None:
    grpc = {"data": {"content-type": ""}}
    http = {"Host": "x", **grpc}
    worker.context.request_processor = [RequestProcessor(grpc), RequestProcessor(http)]
    worker.handler.handle([{"data": body}] * 2, worker.context)
    ends = [worker.context.get_response_headers(i).get("ts_stream_next") for i in range(2)]
    assert ends == ["false", None]


def test_threads_that_cannot_be_set_leave_no_batch_unanswered(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no second session")

    monkeypatch.setattr(Detector, "set_threads", broken)
    later = time.monotonic() + 3600
    monkeypatch.setattr("time.monotonic", lambda: later)
    for _ in range(3):
        assert [status for status, _ in worker.answer([{"body": grey_png(9)}] * 2)] == [200, 200]


class TestLoading:
    def test_without_a_yaml_file(self, scripted_archive: Path) -> None:
        worker = Worker(scripted_archive)
        assert worker.answer([{"body": grey_png(0)}])[0][0] == 200

    def test_no_archive(self, tmp_path: Path) -> None:
        with pytest.raises(LoadError, match="d2serve export"):
            Worker(tmp_path)

    def test_an_unknown_setting(self, scripted_archive: Path) -> None:
        with pytest.raises(LoadError, match="batching is 'sometimes'"):
            Worker(scripted_archive, batching="sometimes")

    def test_limits_of_the_yaml_hold_beside_those_of_the_archive(self, tmp_path: Path) -> None:
        archive = write_archive(tmp_path, limits=RequestLimits(max_image_pixels=500, max_frames=7))
        assert Worker(archive).answer([{"body": grey_png(0)}])[0][0] == 413
        worker = Worker(archive, limits={"max_image_pixels": 600})
        assert worker.answer([{"body": grey_png(0)}])[0][0] == 200
        assert worker.handler._service.spec.limits.max_frames == 7

    def test_a_wrong_limit(self, scripted_archive: Path) -> None:
        with pytest.raises(LoadError, match="max_frames is 0, expected a whole number from 1"):
            Worker(scripted_archive, limits={"max_frames": 0})

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_a_gpu_that_torch_does_not_see(self, scripted_archive: Path) -> None:
        with pytest.raises(LoadError, match="run on cuda:0"):
            Worker(scripted_archive, gpu=0)
