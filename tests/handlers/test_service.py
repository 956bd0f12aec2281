"""The service answers every request of any server, whatever it is, and no exception leaves it."""

from __future__ import annotations

import base64
import gc
import io
import json
import logging
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d2serve.handlers import reading
from d2serve.handlers import service as service_module
from d2serve.handlers.detector import Detector
from d2serve.handlers.outputs import postprocessing
from d2serve.handlers.outputs.masks import encode_masks
from d2serve.handlers.replies.reply import Found, Reply
from d2serve.handlers.requests.options import NAMES
from d2serve.handlers.requests.request import DESCRIBE, GRPC, HTTP, INFER, Request
from d2serve.handlers.service import Service
from d2serve.handlers.spec.limits import RequestLimits
from d2serve.handlers.timing import STEPS
from tests.handlers.programs import UNLUCKY, write_archive, write_semantic_archive
from tests.handlers.samples import coco_rles, picture, saved


def grey_png(value: int, width: int = 30, height: int = 20) -> bytes:
    return saved(Image.new("RGB", (width, height), (value, value, value)), "PNG")


@pytest.fixture(params=["auto", "always"])
def service(scripted_archive: Path, request: pytest.FixtureRequest) -> Service:
    return Service.open(scripted_archive, batching=request.param)


def answered(service: Service, requests: Sequence[Request]) -> list[tuple[int, dict[str, Any]]]:
    """Status and parsed reply for each request."""
    replies = service.replies(requests)
    assert len(replies) == len(requests)
    for reply in replies:
        assert reply.content_type == "application/json"
        assert reply.code.isascii()
        assert (reply.code == "ok") == (reply.status == 200)
    return [(reply.status, json.loads(reply.body)) for reply in replies]


def refused(reply: Reply) -> tuple[int, str, str]:
    return reply.status, reply.code, json.loads(reply.body)["error"]["message"]


class Body(bytearray):
    """One that tells when it is gone."""


@pytest.mark.parametrize(
    "request_",
    [
        Request(b"no picture"),
        Request(grey_png(51)[:-20]),
        Request(grey_png(51), {"masks": b"some"}),
        Request(grey_png(UNLUCKY)),
        Request(grey_png(51, 300, 300), {"draw": b"png"}),  # a reply that is too large
    ],
)
def test_a_refused_request_is_gone_with_its_reply(
    scripted_archive: Path, request_: Request
) -> None:
    """Else it stays until Python collects all its garbage, which takes thousands of requests."""
    service = Service.open(scripted_archive, limits={"max_reply_bytes": 500})
    neighbour, refused = Body(grey_png(51)), Body(request_.body)
    gone = [weakref.ref(neighbour), weakref.ref(refused)]
    gc.collect()
    gc.disable()
    try:
        answers = answered(service, [Request(neighbour), Request(refused, request_.fields)])
        del neighbour, refused
        assert answers[0][0] == 200
        assert answers[1][0] >= 400
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()


def test_one_image(service: Service) -> None:
    reply = service.reply(Request(grey_png(51), id="seven"))
    assert (reply.status, reply.code, reply.request_id) == (200, "ok", "seven")
    assert reply.found == Found(20, 30, 1)
    assert reply.message == ""
    assert reply.call is not None
    assert reply.call.images == 1
    assert list(reply.seconds) == list(STEPS)
    assert all(0 < seconds < 60 for seconds in reply.seconds.values())
    read = json.loads(reply.body)
    assert read["model"] == "shapes"
    assert read["version"] == "1.0"
    assert read["request_id"] == "seven"
    assert read["image"] == {"height": 20, "width": 30}
    (instance,) = read["instances"]
    assert instance["bbox"] == [0, 0, 15, 10]
    assert instance["score"] == pytest.approx(0.2)


def test_an_array_is_answered_as_the_file_of_it(service: Service) -> None:
    pixels = np.full((20, 30, 3), 51, np.uint8)
    assert service.reply(Request(pixels)).body == service.reply(Request(grey_png(51))).body


def test_it_is_served_under_the_name_it_is_given(scripted_archive: Path) -> None:
    service = Service.open(scripted_archive, "mine", "2.0")
    read = json.loads(service.reply(Request(grey_png(51))).body)
    assert (read["model"], read["version"]) == ("mine", "2.0")


def test_no_requests(service: Service) -> None:
    assert service.replies([]) == []


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_types_that_bring_an_image(service: Service, kind: Any) -> None:
    ((status, reply),) = answered(service, [Request(kind(grey_png(102)), {"masks": kind(b"rle")})])
    assert status == 200
    assert reply["instances"][0]["score"] == pytest.approx(0.4)


BAD_REQUESTS = [
    (Request(b""), 400, "empty_request"),
    (Request(), 400, "empty_request"),
    (Request(None, {"picture": grey_png(1)}), 400, "empty_request"),
    (Request(None, {"bïld\n": b"x"}), 400, "empty_request"),
    (Request({"instances": [1, 2]}), 400, "empty_request"),
    (Request([1]), 400, "empty_request"),
    (Request("naïve\ntext"), 400, "empty_request"),
    (Request("naïve\r\nbytes".encode()), 415, "unsupported_image_format"),
    (Request(saved(picture(40, 30), "JPEG")[:300]), 400, "invalid_image"),
    (Request(np.zeros((3, 4), np.uint8)), 400, "invalid_image"),
    (Request(grey_png(UNLUCKY)), 500, "model_failed"),
    (Request(grey_png(9), {"sem_seg": b"jpeg"}), 400, "invalid_option"),
    (Request(grey_png(9), {"sem_seg": "naïve\ntext"}), 400, "invalid_option"),
    (Request(grey_png(9), {"sem_seg": {}}), 400, "invalid_option"),
    (Request(grey_png(9), {"other": b"x"}), 400, "invalid_option"),
    (Request({"image": "no base64"}), 400, "invalid_image"),
    (Request({"image": "", "masks": "none"}), 400, "empty_request"),
    (Request({"image": base64.b64encode(grey_png(9)).decode(), "a": 1}), 400, "invalid_option"),
    (Request(b"", {1: b"", "x": b""}), None, None),  # type: ignore[dict-item]
    (Request(b"{no json"), 400, "empty_request"),
]


@pytest.mark.parametrize(("request_", "status", "code"), BAD_REQUESTS)
def test_a_bad_request_gets_its_own_status_and_harms_no_neighbour(
    service: Service, request_: Request, status: int | None, code: str | None
) -> None:
    good = [51, 102, 255]
    batch = [Request(grey_png(value)) for value in good]
    batch[1:1] = [request_]
    answers = answered(service, batch)
    got, reply = answers.pop(1)
    assert got == status if status else got in (400, 500)
    assert list(reply) == ["error"]
    assert reply["error"]["code"] == code if code else reply["error"]["code"]
    assert len(reply["error"]["message"]) > 20
    assert [each for each, _ in answers] == [200, 200, 200]
    scores = [each["instances"][0]["score"] for _, each in answers]
    assert scores == pytest.approx([value / 255 for value in good])


def test_nothing_but_bad_requests(service: Service) -> None:
    answers = answered(service, [request for request, _, _ in BAD_REQUESTS])
    assert all(status >= 400 for status, _ in answers)


def test_images_of_different_sizes_are_answered_in_order(service: Service) -> None:
    sizes = [(30, 20), (8, 50), (64, 64), (1, 1)]
    batch = [Request(grey_png(i, *size)) for i, size in enumerate(sizes)]
    replies = [reply for _, reply in answered(service, batch)]
    assert [(reply["image"]["width"], reply["image"]["height"]) for reply in replies] == sizes


def test_those_that_share_a_call_say_so(scripted_archive: Path) -> None:
    service = Service.open(scripted_archive, batching="always")
    bad = Request(b"bad")
    replies = service.replies([Request(grey_png(9)), bad, Request(grey_png(10))])
    assert replies[0].call is replies[2].call
    assert replies[1].call is None
    assert replies[0].call is not None
    assert replies[0].call.images == 2


@pytest.mark.parametrize(
    ("fields", "contents"),
    [({}, "1 instance"), ({"draw": "png"}, "the picture as png")],
    ids=["json", "picture"],
)
def test_the_bound_of_a_reply(
    scripted_archive: Path, fields: dict[str, Any], contents: str
) -> None:
    detector = Detector.open(scripted_archive)
    size = len(Service(detector, "shapes").reply(Request(grey_png(9), fields)).body)
    enough = Service(detector, "shapes", max_reply_bytes=size)
    assert enough.reply(Request(grey_png(9), fields)).status == 200
    less = Service(detector, "shapes", max_reply_bytes=size - 1)
    reply = less.reply(Request(grey_png(9), fields))
    status, code, message = refused(reply)
    assert (status, code) == (413, "reply_too_large")
    assert f"{size:,} bytes for {contents}, expected at most {size - 1:,}" in message
    assert reply.call is not None  # the model was asked


def test_the_bound_of_an_answer_of_the_open_inference_protocol(scripted_archive: Path) -> None:
    service = Service.open(scripted_archive, limits={"max_reply_bytes": 99})
    image = {"name": "image", "datatype": "BYTES", "shape": [1]}
    body = {"inputs": [{**image, "data": [base64.b64encode(grey_png(9)).decode()]}]}
    reply = service.reply(Request(body, transport=HTTP))
    assert (reply.status, reply.code) == (413, "reply_too_large")
    assert "for the Open Inference Protocol, expected at most 99" in json.loads(reply.body)["error"]


def test_torchserves_bound_binds_nobody_else(scripted_archive: Path, tmp_path: Path) -> None:
    """The default is TorchServe's; another one was chosen by whoever serves the archive."""
    assert Service.open(scripted_archive)._max_reply_bytes is None
    chosen = write_archive(tmp_path, limits=RequestLimits(max_reply_bytes=99))
    assert refused(Service.open(chosen).reply(Request(grey_png(9))))[1] == "reply_too_large"


def test_a_class_without_a_name(tmp_path: Path) -> None:
    """The program answers class 1, the spec names class 0 only: an image's error, no worker's."""
    service = Service.open(write_archive(tmp_path, class_names=("circle",)))
    reply = service.reply(Request(grey_png(9)))
    assert (reply.status, reply.code) == (500, "model_failed")


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (reading, "read_pixels"),
        (reading, "preprocess"),
        (service_module, "read_request"),
        (service_module, "encode"),
        (Detector, "answer"),
    ],
    ids=str,
)
def test_a_bug_of_ours_is_an_error_500(
    service: Service, monkeypatch: pytest.MonkeyPatch, module: Any, step: str
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("a bug")

    monkeypatch.setattr(module, step, broken)
    for reply in service.replies([Request(grey_png(9)), Request(grey_png(10))]):
        status, code, message = refused(reply)
        assert (status, code) == (500, "model_failed")
        assert "a bug" not in message


def test_a_bug_in_the_metadata_is_an_error_500(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("a bug")

    monkeypatch.setattr(service_module, "describe", broken)
    assert service.reply(Request(kind=DESCRIBE)).status == 500
    assert any("a bug" in str(each.exc_info) for each in caplog.get_records("call"))
    assert caplog.records[0].levelno == logging.ERROR


def test_a_program_whose_answer_makes_no_sense_fails_its_image_only(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks_of_another_rank = {
        "pred_boxes": np.array([[0, 0, 5, 5]], np.float32),
        "scores": np.ones(1, np.float32),
        "pred_classes": np.zeros(1, np.int64),
        "pred_masks": np.ones((1, 28), np.float32),
    }
    loaded = service._detector._runtime
    monkeypatch.setattr(loaded, "run", lambda images: [masks_of_another_rank] * len(images))
    answers = answered(service, [Request(grey_png(9)), Request(b"bad")])
    assert [status for status, _ in answers] == [500, 415]


def test_each_request_has_options_of_its_own(tmp_path: Path) -> None:
    service = Service.open(write_semantic_archive(tmp_path, stuff_class_names=("dark", "bright")))
    wishes: list[dict[str, Any]] = [{}, {"sem_seg": b"rle"}, {"sem_seg": "png"}, {}]
    batch = [Request(grey_png(value), wish) for value, wish in zip((9, 200, 200, 9), wishes)]
    batch.insert(1, Request(grey_png(9), {"sem_seg": b"gif"}))
    answers = answered(service, batch)
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


# A value of each option, as text and as JSON or Python has it.
VALUES = {
    "score_thresh": ("0.5", 0.5),
    "max_detections": ("1", 1),
    "classes": ("0", [0]),
    "masks": ("polygon", "polygon"),
    "sem_seg": ("rle", "rle"),
    "extra": ("base64", "base64"),
    "draw": ("png", "png"),
}


@pytest.mark.parametrize("name", VALUES)
def test_an_option_means_the_same_over_every_transport(scripted_archive: Path, name: str) -> None:
    service = Service.open(scripted_archive)
    image, (text, value) = grey_png(200), VALUES[name]
    in_base64 = base64.b64encode(image).decode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [in_base64]}
    reply = {"name": "outputs", "datatype": "BYTES", "shape": [1]}

    def infer(grpc: bool) -> list[dict[str, Any]]:
        def data(word: str) -> list[str]:
            return [base64.b64encode(word.encode()).decode() if grpc else word]

        option = {"name": name, "datatype": "BYTES", "shape": [1], "data": data(text)}
        return [tensor, option, {**reply, "data": data("reply")}]

    in_json = {"image": in_base64, name: value}
    plain = [
        Request(image, {name: value}),
        Request(image, {name: text.encode()}, transport=HTTP),
        Request(in_json, transport=HTTP),
        Request(json.dumps(in_json).encode(), transport=HTTP),
        Request(image, headers={f"X-D2serve-{name}": text}, transport=HTTP),
        Request(image, {name: text.encode()}, transport=GRPC),
    ]
    first, *others = [service.reply(each) for each in plain]
    assert first.status == 200
    assert [each.body for each in others] == [first.body] * len(others)
    assert tuple(VALUES) == NAMES
    parameters = {"inputs": [tensor, {**reply, "data": ["reply"]}], "parameters": {name: value}}
    for request in (
        Request({"inputs": infer(False)}, transport=HTTP),
        Request(parameters, transport=HTTP),
        Request({"inputs": infer(True)}, kind=INFER, transport=GRPC),
    ):
        (output,) = json.loads(service.reply(request).body)["outputs"]
        element = output["data"][0]
        element = json.loads(element) if isinstance(element, str) else element
        if "picture" in element:
            assert base64.b64decode(element["picture"]) == first.body
        else:
            assert element == json.loads(first.body)


@pytest.mark.parametrize(
    ("option", "kind"), [(b"png", "image/png"), (b"jpeg", "image/jpeg")], ids=["png", "jpeg"]
)
def test_the_picture_as_the_reply(service: Service, option: bytes, kind: str) -> None:
    drawn, error = service.replies(
        [Request(grey_png(51), {"draw": option}), Request(b"", {"draw": option})]
    )
    assert drawn.content_type == kind
    with Image.open(io.BytesIO(drawn.body)) as image:
        assert image.size == (30, 20)
        assert Image.MIME[str(image.format)] == kind
    assert error.content_type == "application/json"
    assert json.loads(error.body)["error"]["code"] == "empty_request"


@pytest.mark.parametrize(
    ("outputs", "fields", "masks"),
    [
        (None, {}, 1),
        (["boxes"], {}, 0),
        (["boxes", "masks"], {}, 1),
        (["reply"], {}, 1),
        (["reply"], {"masks": "none"}, 0),
        (None, {"masks": "none"}, 0),
        (None, {"score_thresh": 0.5}, 0),
    ],
)
def test_masks_are_not_made_for_nothing(
    scripted_archive: Path,
    monkeypatch: pytest.MonkeyPatch,
    outputs: list[str] | None,
    fields: dict[str, Any],
    masks: int,
) -> None:
    made = list[int]()

    def counted(found: Any, *rest: Any) -> Any:
        made.append(len(found))
        return encode_masks(found, *rest)

    monkeypatch.setattr(postprocessing, "encode_masks", counted)
    image = {"name": "image", "datatype": "BYTES", "shape": [1]}
    body: dict[str, Any] = {
        "inputs": [{**image, "data": [base64.b64encode(grey_png(51)).decode()]}]
    }
    if outputs is not None:
        body["outputs"] = [{"name": name} for name in outputs]
    reply = Service.open(scripted_archive).reply(Request(body, fields, transport=HTTP))
    assert reply.status == 200
    assert sum(made) == masks


def test_metadata(service: Service) -> None:
    reply = service.reply(Request(kind=DESCRIBE, id="1"))
    assert (reply.status, reply.found, reply.call) == (200, None, None)
    assert json.loads(reply.body)["name"] == "shapes"


class TestMemory:
    def test_an_image_that_is_too_large_to_draw_upon(self, scripted_archive: Path) -> None:
        service = Service.open(scripted_archive, limits={"max_drawn_pixels": 599})
        image = grey_png(9)
        assert service.reply(Request(image)).status == 200
        assert service.reply(Request(grey_png(9, 30, 19), {"draw": "png"})).status == 200
        status, code, message = refused(service.reply(Request(image, {"draw": "png"})))
        assert (status, code) == (413, "image_too_large")
        assert "draw for an image of 30x20 pixels, expected at most 599" in message

    def test_an_image_that_is_too_large_for_a_model_that_does_not_resize(
        self, tmp_path: Path
    ) -> None:
        service = Service.open(write_archive(tmp_path), limits={"max_input_pixels": 599})
        assert service.spec.min_size_test == 0
        assert service.reply(Request(grey_png(9, 30, 19))).status == 200
        status, code, message = refused(service.reply(Request(grey_png(9))))
        assert (status, code) == (413, "image_too_large")
        assert "30x20 pixels, expected at most 599 pixels: this model takes images as" in message

    def test_of_more_channels_fewer_pixels_are_taken(self, tmp_path: Path) -> None:
        archive = write_archive(tmp_path, image_format="bands", channels=6)
        service = Service.open(archive, limits={"max_input_pixels": 599})
        pixels = np.full((15, 20, 6), 9, np.uint8)
        assert service.reply(Request(pixels[:-1])).status == 200
        assert "at most 299 pixels" in refused(service.reply(Request(pixels)))[2]

    def test_one_that_resizes_is_bound_by_its_own_sizes(self, tmp_path: Path) -> None:
        archive = write_archive(tmp_path, min_size_test=32, max_size_test=50)
        service = Service.open(archive, limits={"max_input_pixels": 599})
        assert service.reply(Request(grey_png(9))).status == 200

    def test_by_default_they_bind_what_the_image_limit_permits(
        self, scripted_archive: Path
    ) -> None:
        service = Service.open(scripted_archive)
        assert service.spec.limits.max_drawn_pixels < service.spec.limits.max_image_pixels
        big = saved(Image.new("L", (5000, 4000)), "PNG")
        assert refused(service.reply(Request(big)))[1] == "image_too_large"
        assert refused(service.reply(Request(big, {"draw": "jpeg"})))[1] == "image_too_large"
