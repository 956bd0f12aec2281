"""Until when an answer is waited for: how it is said, and that nothing is done afterwards."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from d2serve.handlers import reading
from d2serve.handlers import service as service_module
from d2serve.handlers.errors import DeadlineExceeded, InvalidOption
from d2serve.handlers.requests.deadline import FARTHEST_SECONDS, check_in_time, deadline_of
from d2serve.handlers.requests.request import GRPC, Request, classify
from d2serve.handlers.service import Service
from tests.handlers.samples import saved

IMAGE = saved(Image.new("RGB", (30, 20), (51, 51, 51)), "PNG")
BASE64 = base64.b64encode(IMAGE).decode()
HEADER = "X-Request-Deadline"


def read(value: Any = None, **headers: str) -> float | None:
    headers = {name.replace("_", "-"): each for name, each in headers.items()}
    call = classify(Request(IMAGE, headers=headers))
    return deadline_of(call, {"deadline": value, "masks": "none"})


def tensor(name: str, datatype: str, data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [1], "data": [data]}


def forms(deadline: float) -> dict[str, Request]:
    """A request in every form in which it may say its deadline."""
    text, image = f"{deadline:.3f}", tensor("image", "BYTES", BASE64)
    in_base64 = base64.b64encode(text.encode()).decode()
    call = {"inputs": [image], "parameters": {"deadline": deadline}}
    return {
        "header": Request(IMAGE, headers={HEADER: text}),
        "header, as of an option": Request(IMAGE, headers={"x-d2serve-Deadline": text}),
        "form": Request(IMAGE, {"deadline": text.encode()}),
        "JSON": Request({"image": BASE64, "deadline": deadline}),
        "JSON, as bytes": Request(json.dumps({"image": BASE64, "deadline": text}).encode()),
        "parameter": Request(call),
        "input": Request({"inputs": [image, tensor("deadline", "FP64", deadline)]}),
        "input over gRPC": Request(
            {"inputs": [image, tensor("deadline", "BYTES", in_base64)]}, transport=GRPC
        ),
        "known to the server": Request(IMAGE, deadline=deadline),
    }


@pytest.fixture(scope="module")
def service(scripted_archive: Path) -> Service:
    return Service.open(scripted_archive)


@pytest.mark.parametrize("form", forms(0))
def test_a_request_that_is_late_is_neither_decoded_nor_computed(
    service: Service, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    assert service.reply(forms(time.time() + 60)[form]).status == 200
    monkeypatch.delattr(reading, "read_pixels")
    reply = service.reply(forms(time.time() - 2)[form])
    assert (reply.status, reply.code, reply.call) == (504, "deadline_exceeded", None)
    assert b"was over 2." in reply.body


def test_its_neighbours_are_answered(service: Service) -> None:
    late, good = Request(IMAGE, deadline=time.time() - 1), Request(IMAGE)
    assert [each.status for each in service.replies([late, good, late])] == [504, 200, 504]


def test_what_is_late_when_its_batch_was_read_is_not_computed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*arguments: Any) -> Any:
        found = reading.read_request(*arguments)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(service_module, "read_request", slowly)
    soon, later = (Request(IMAGE, deadline=time.time() + each) for each in (0.2, 60))
    replies = service.replies([soon, later])
    assert [each.status for each in replies] == [504, 200]
    assert replies[1].call is not None
    assert replies[1].call.images == 1


def test_it_may_be_a_sum() -> None:
    now = round(time.time(), 2)
    assert read(f"{now}+30") == pytest.approx(now + 30)
    assert read(X_Request_Deadline=f" {now} + 0.5 ") == pytest.approx(now + 0.5)


def test_the_earliest_holds() -> None:
    now = time.time()
    assert read(now + 5, X_Request_Deadline=str(now + 9)) == pytest.approx(now + 5)
    assert read(now + 9, X_Request_Deadline=str(now + 5)) == pytest.approx(now + 5)
    known = classify(Request(IMAGE, deadline=now + 1, headers={HEADER: str(now + 5)}))
    assert deadline_of(known, {}) == now + 1


def test_without_any() -> None:
    assert read() is None
    check_in_time(None)


def refuse(value: Any) -> None:
    with pytest.raises(InvalidOption, match="option deadline=") as caught:
        read(value)
    assert f"which says {time.time():.0f}"[:17] in str(caught.value)
    assert len(str(caught.value)) < 400
    if isinstance(value, str) and value.isprintable() and value.isascii():
        with pytest.raises(InvalidOption):
            read(X_Request_Deadline=value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "30",
        30,
        "soon",
        "nan",
        float("nan"),
        float("inf"),
        "1e9",
        "-5",
        True,
        [1],
        {},
        b"\xff",
        "9" * 5000,
        10**400,
        "1 790 000 000",
        "\u0661\u0667\u0669",
    ],
    ids=lambda value: repr(value)[:12],
)
def test_what_is_no_time(value: Any) -> None:
    refuse(value)


def test_what_is_no_time_near_now() -> None:
    now = time.time()
    refuse(str(round(now * 1000)))
    refuse(round(now * 1000))
    refuse(f"{now + 2 * FARTHEST_SECONDS:.0f}")
    refuse(f"{now - 2 * FARTHEST_SECONDS:.0f}")
    refuse(f"{now:.0f}+999999")
    refuse(f"{now:.0f}+")
    refuse(f"{now:.0f}-5")
    refuse(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


def test_a_second_after_it_is_over() -> None:
    check_in_time(time.time() + 1)
    with pytest.raises(DeadlineExceeded, match=r"over 1\.\d s before"):
        check_in_time(time.time() - 1)
