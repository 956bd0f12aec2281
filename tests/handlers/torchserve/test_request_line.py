"""A request's line in both forms, of the handler as TorchServe runs it."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from ts.context import Context, RequestProcessor

from d2serve.handlers.torchserve.detection_handler import DetectionHandler
from d2serve.handlers.torchserve.request_line import LOG_FORMAT, PREFIX
from tests.handlers.programs import UNLUCKY
from tests.handlers.requests.test_tracing import ID, SPAN, VALID
from tests.handlers.torchserve.test_detection_handler import grey_png

OVER_HTTP = {"Host": "x", "Traceparent": VALID}
CALLS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"body": grey_png(51)}, OVER_HTTP),
    ({"body": b"bad"}, OVER_HTTP),
    ({"body": grey_png(UNLUCKY)}, OVER_HTTP),
    ({"body": grey_png(51)}, {"Host": "x", "traceparent": f"{VALID}\n[METRICS]x:1"}),
    ({"data": grey_png(51), "traceparent": VALID.encode()}, {}),  # over gRPC
    ({"data": grey_png(51), "traceparent": b"\xff"}, {}),
]


def lines_of(archive: Path, caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """The level and line of each of the calls."""
    manifest = {"model": {"modelName": "archived", "modelVersion": "2.0"}}
    context = Context("shapes", str(archive), manifest, 8, None, "0.12", model_yaml_config={})
    handler = DetectionHandler()
    handler.initialize(context)
    with caplog.at_level(logging.INFO, "d2serve.handlers.torchserve.reporting"):
        caplog.clear()
        for number, (fields, headers) in enumerate(CALLS):
            context.request_processor = [RequestProcessor(dict(headers))]
            context.request_ids = {0: f"id-{number}"}
            handler.handle([fields], context)
    own = "d2serve.handlers.torchserve.reporting"
    found = [(each.levelno, each.getMessage()) for each in caplog.records if each.name == own]
    assert len(found) == len(CALLS)
    return found


def test_as_json(
    scripted_archive: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOG_FORMAT, "json")
    found = lines_of(scripted_archive, caplog)
    assert all(line.isascii() and line.isprintable() for _, line in found)
    assert [level for level, _ in found] == [20, 20, 40, 20, 20, 20]
    parsed = [json.loads(line.removeprefix(PREFIX)) for _, line in found]
    answered, refused, failed, forged, over_grpc, no_trace = parsed
    ms = answered.pop("ms")
    assert list(ms) == ["decode", "preprocess", "forward", "postprocess", "encode"]
    assert all(0 < each < 10_000 for each in ms.values())
    served = {"trace_id": ID, "span_id": SPAN, "model": "shapes", "version": "2.0"}
    assert answered == {
        "level": "INFO",
        "message": "answered",
        "request_id": "id-0",
        **served,
        "status": 200,
        "code": "ok",
        "height": 20,
        "width": 30,
        "objects": 1,
        "batch": 1,
    }
    assert refused == {
        "level": "INFO",
        "message": "refused",
        "request_id": "id-1",
        **served,
        "status": 415,
        "code": "unsupported_image_format",
    }
    assert failed.pop("error")
    assert failed == {
        "level": "ERROR",
        "message": "failed",
        "request_id": "id-2",
        **served,
        "status": 500,
        "code": "model_failed",
    }
    assert (over_grpc["trace_id"], over_grpc["status"]) == (ID, 200)
    for each in (forged, no_trace):
        assert each["status"] == 200
        assert not {"trace_id", "span_id"} & set(each)


def test_as_text(
    scripted_archive: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LOG_FORMAT, raising=False)
    answered, refused, failed, forged, over_grpc, _ = lines_of(scripted_archive, caplog)
    trace = f", trace {ID} span {SPAN}"
    times = r"decode [\d.]+ preprocess [\d.]+ forward [\d.]+ postprocess [\d.]+ encode [\d.]+"
    form = rf"d2serve: id-\d answered: 30x20, 1 found, batch of 1, ms: {times}"
    assert re.fullmatch(form + trace, answered[1])
    assert re.fullmatch(form + trace, over_grpc[1])
    assert re.fullmatch(form, forged[1])
    assert refused[1] == f"d2serve: id-1 refused: 415 unsupported_image_format{trace}"
    assert re.fullmatch(rf"d2serve: id-2 failed: 500 model_failed: '.+'{trace}", failed[1])
