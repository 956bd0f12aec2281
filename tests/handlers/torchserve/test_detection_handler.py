"""TorchServe's contract: a reply for each request, whatever the request is, and no exception."""

from __future__ import annotations

import base64
import gc
import io
import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ts.context import Context, RequestProcessor
from ts.utils.util import list_classes_from_module

from d2serve.handlers.errors import LoadError
from d2serve.handlers.requests import preparation as preparing
from d2serve.handlers.spec.limits import RequestLimits
from d2serve.handlers.torchserve import detection_handler
from d2serve.handlers.torchserve.detection_handler import DetectionHandler
from tests.handlers.programs import UNLUCKY, write_archive, write_semantic_archive
from tests.handlers.samples import coco_rles, picture, saved


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


class Body(bytearray):
    """One that tells when it is gone."""


@pytest.mark.parametrize(
    "fields",
    [
        {"body": b"no picture"},
        {"body": grey_png(51)[:-20]},
        {"body": grey_png(51), "masks": b"some"},
        {"body": grey_png(UNLUCKY)},
        {"body": grey_png(51, 300, 300), "draw": b"png"},  # a reply that is too large
    ],
)
def test_a_refused_request_is_gone_with_its_reply(
    scripted_archive: Path, fields: dict[str, bytes]
) -> None:
    """Else it stays until Python collects all its garbage, which takes thousands of requests."""
    worker = Worker(scripted_archive, limits={"max_reply_bytes": 500})
    neighbour, refused = Body(grey_png(51)), Body(fields["body"])
    gone = [weakref.ref(neighbour), weakref.ref(refused)]
    gc.collect()
    gc.disable()
    try:
        answers = worker.answer([{"body": neighbour}, {**fields, "body": refused}])
        del neighbour, refused
        assert answers[0][0] == 200
        assert answers[1][0] >= 400
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()


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


BAD_REQUESTS = [
    ({"body": b""}, 400, "empty_request"),
    ({}, 400, "empty_request"),
    ({"picture": grey_png(1)}, 400, "empty_request"),
    ({"bïld\n": b"x"}, 400, "empty_request"),
    ({"body": {"instances": [1, 2]}}, 400, "empty_request"),
    ({"body": [1]}, 400, "empty_request"),
    ({"body": "naïve\ntext"}, 400, "empty_request"),
    ({"body": None, "data": None}, 400, "empty_request"),
    ({"body": "naïve\r\nbytes".encode()}, 415, "unsupported_image_format"),
    ({"body": saved(picture(40, 30), "JPEG")[:300]}, 400, "invalid_image"),
    ({"body": grey_png(UNLUCKY)}, 500, "model_failed"),
    ({"body": grey_png(9), "sem_seg": b"jpeg"}, 400, "invalid_option"),
    ({"body": grey_png(9), "sem_seg": "naïve\ntext"}, 400, "invalid_option"),
    ({"body": grey_png(9), "sem_seg": {}}, 400, "invalid_option"),
    ({"body": grey_png(9), "other": b"x"}, 400, "invalid_option"),
    ({"body": {"image": "no base64"}}, 400, "invalid_image"),
    ({"body": {"image": "", "masks": "none"}}, 400, "empty_request"),
    ({"body": {"image": base64.b64encode(grey_png(9)).decode(), "a": 1}}, 400, "invalid_option"),
    ({1: b"", "x": b""}, None, None),
    (None, 400, "empty_request"),
]


@pytest.mark.parametrize(("request_", "status", "code"), BAD_REQUESTS)
def test_a_bad_request_gets_its_own_status_and_harms_no_neighbour(
    worker: Worker, request_: Any, status: int | None, code: str | None
) -> None:
    good = [51, 102, 255]
    batch: list[Any] = [{"body": grey_png(value)} for value in good]
    batch[1:1] = [request_]
    answers = worker.answer(batch)
    got, reply = answers.pop(1)
    assert got == status if status else got in (400, 500)
    assert list(reply) == ["error"]
    assert reply["error"]["code"] == code if code else reply["error"]["code"]
    assert len(reply["error"]["message"]) > 20
    assert [each for each, _ in answers] == [200, 200, 200]
    scores = [each["instances"][0]["score"] for _, each in answers]
    assert scores == pytest.approx([value / 255 for value in good])


def test_nothing_but_bad_requests(worker: Worker) -> None:
    answers = worker.answer([request for request, _, _ in BAD_REQUESTS])
    assert all(status >= 400 for status, _ in answers)


def test_images_of_different_sizes_are_answered_in_order(worker: Worker) -> None:
    sizes = [(30, 20), (8, 50), (64, 64), (1, 1)]
    batch = [{"body": grey_png(i, *size)} for i, size in enumerate(sizes)]
    got = [(reply["image"]["width"], reply["image"]["height"]) for _, reply in worker.answer(batch)]
    assert got == sizes


def test_a_status_does_not_stay_for_the_next_batch(worker: Worker) -> None:
    assert worker.answer([{"body": b"bad"}])[0][0] == 415
    assert worker.answer([{"body": grey_png(9)}])[0][0] == 200


def test_a_reply_that_is_too_large(scripted_archive: Path) -> None:
    worker = Worker(scripted_archive, limits={"max_reply_bytes": 99})
    ((status, reply),) = worker.answer([{"body": grey_png(9)}])
    assert (status, reply["error"]["code"]) == (413, "reply_too_large")


def test_a_class_without_a_name(tmp_path: Path) -> None:
    """The program answers class 1, the spec names class 0 only: an image's error, no worker's."""
    worker = Worker(write_archive(tmp_path, class_names=("circle",)))
    ((status, reply),) = worker.answer([{"body": grey_png(9)}])
    assert (status, reply["error"]["code"]) == (500, "model_failed")


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (preparing, "decode"),
        (preparing, "preprocess"),
        (detection_handler, "prepare"),
        (detection_handler, "select"),
        (detection_handler, "encode"),
    ],
    ids=str,
)
def test_a_bug_of_ours_is_an_error_500(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, module: Any, step: str
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("a bug")

    monkeypatch.setattr(module, step, broken)
    ((status, reply),) = worker.answer([{"body": grey_png(9)}])
    assert (status, reply["error"]["code"]) == (500, "model_failed")
    assert "a bug" not in reply["error"]["message"]


def test_a_program_whose_answer_makes_no_sense_fails_its_image_only(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks_of_another_rank = {
        "pred_boxes": np.array([[0, 0, 5, 5]], np.float32),
        "scores": np.ones(1, np.float32),
        "pred_classes": np.zeros(1, np.int64),
        "pred_masks": np.ones((1, 28), np.float32),
    }
    loaded = worker.handler._detector._runtime
    monkeypatch.setattr(loaded, "run", lambda images: [masks_of_another_rank] * len(images))
    answers = worker.answer([{"body": grey_png(9)}, {"body": b"bad"}])
    assert [status for status, _ in answers] == [500, 415]


def test_each_request_has_options_of_its_own(tmp_path: Path) -> None:
    worker = Worker(write_semantic_archive(tmp_path, stuff_class_names=("dark", "bright")))
    batch: list[dict[str, Any]] = [{"body": grey_png(value)} for value in (9, 200, 200, 9)]
    batch[1]["sem_seg"], batch[2]["sem_seg"] = b"rle", "png"
    batch.insert(1, {"body": grey_png(9), "sem_seg": b"gif"})
    answers = worker.answer(batch)
    assert [status for status, _ in answers] == [200, 400, 200, 200, 200]
    assert "sem_seg='gif', expected one of png, rle" in answers.pop(1)[1]["error"]["message"]
    assert ["png" in reply["sem_seg"] for _, reply in answers] == [True, False, True, True]
    assert not any("instances" in reply for _, reply in answers)
    (found,) = answers[1][1]["sem_seg"]["classes"]
    assert found == {
        "category_id": 1,
        "category_name": "bright",
        "area": 600,
        "segmentation": coco_rles(np.ones((1, 20, 30)))[0],
    }


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


@pytest.mark.parametrize(
    ("option", "kind"), [(b"png", "image/png"), (b"jpeg", "image/jpeg")], ids=["png", "jpeg"]
)
def test_the_picture_as_the_reply(worker: Worker, option: bytes, kind: str) -> None:
    worker.context.request_processor = [RequestProcessor({"Host": "x"}) for _ in range(2)]
    requests = [{"data": grey_png(51), "draw": option}, {"data": b"", "draw": option}]
    picture, error = worker.handler.handle(requests, worker.context)
    assert worker.context.get_response_content_type(0) == kind
    with Image.open(io.BytesIO(picture)) as image:
        assert image.size == (30, 20)
        assert Image.MIME[str(image.format)] == kind
    assert worker.context.get_response_content_type(1) == "application/json"
    assert json.loads(error)["error"]["code"] == "empty_request"


def test_a_picture_that_is_too_large(scripted_archive: Path) -> None:
    worker = Worker(scripted_archive, limits={"max_reply_bytes": 99})
    ((status, reply),) = worker.answer([{"body": grey_png(9), "draw": "png"}])
    assert (status, reply["error"]["code"]) == (413, "reply_too_large")
    assert "bytes for the picture as png, expected at most 99" in reply["error"]["message"]


@pytest.mark.parametrize("body", [grey_png(9), b"bad"])
def test_streaming_ends_with_the_reply_on_grpc_only(worker: Worker, body: bytes) -> None:
    grpc = {"data": {"content-type": ""}}
    http = {"Host": "x", **grpc}
    worker.context.request_processor = [RequestProcessor(grpc), RequestProcessor(http)]
    worker.handler.handle([{"data": body}] * 2, worker.context)
    ends = [worker.context.get_response_headers(i).get("ts_stream_next") for i in range(2)]
    assert ends == ["false", None]


def test_the_share_of_cores_is_asked_for_again_now_and_then(
    scripted_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, asked = [100.0], list[int]()

    def thread_share(max_workers: int) -> int:
        asked.append(max_workers)
        return 1

    monkeypatch.setattr(detection_handler, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(detection_handler, "thread_share", thread_share)
    worker = Worker(scripted_archive, maxWorkers=3)
    assert set(asked) == {3}
    asked.clear()
    for seconds in (1, 1, 10, 1):
        clock[0] += seconds
        worker.answer([{"body": grey_png(9)}])
    assert asked == [3]


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
        assert worker.handler._detector.spec.limits.max_frames == 7

    def test_a_wrong_limit(self, scripted_archive: Path) -> None:
        with pytest.raises(LoadError, match="max_frames is 0, expected a whole number from 1"):
            Worker(scripted_archive, limits={"max_frames": 0})

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_a_gpu_that_torch_does_not_see(self, scripted_archive: Path) -> None:
        with pytest.raises(LoadError, match="run on cuda:0"):
            Worker(scripted_archive, gpu=0)
