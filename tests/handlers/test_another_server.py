"""Another server than TorchServe answers the same bytes, with an adapter of 40 lines."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from ts.context import Context, RequestProcessor

from d2serve.handlers.service import Service
from d2serve.handlers.torchserve.detection_handler import DetectionHandler
from tests.handlers.http_adapter import serving
from tests.handlers.samples import saved

IMAGE = saved(Image.new("RGB", (30, 20), (51, 102, 153)), "PNG")
BASE64 = base64.b64encode(IMAGE).decode()
FILE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [BASE64]}
CALL = {"inputs": [FILE], "parameters": {"max_detections": 1}}


@pytest.fixture(scope="module")
def foreign(scripted_archive: Path) -> Iterator[str]:
    with serving(Service.open(scripted_archive)) as address:
        yield address


@pytest.fixture(scope="module")
def torchserve(scripted_archive: Path) -> tuple[DetectionHandler, Any]:
    manifest = {"model": {"modelVersion": "1.0"}}
    context: Any = Context("shapes", str(scripted_archive), manifest, 8, None, "0.12")
    context.request_ids = {0: "torchserves"}
    handler = DetectionHandler()
    handler.initialize(context)
    return handler, context


@pytest.mark.parametrize(
    ("path", "body", "fields", "headers"),
    [
        ("/predict", IMAGE, {}, {}),
        ("/predict", IMAGE, {}, {"X-D2serve-Masks": "polygon"}),
        (
            "/predict?masks=none&score_thresh=0.5",
            IMAGE,
            {"masks": "none", "score_thresh": "0.5"},
            {},
        ),
        ("/predict", IMAGE, {}, {"X-D2serve-Draw": "jpeg"}),
        ("/predict", json.dumps({"image": BASE64, "masks": "polygon"}).encode(), {}, {}),
        ("/v2/models/shapes/infer", json.dumps(CALL).encode(), {}, {}),
        ("/v2/models/shapes/infer", json.dumps({"inputs": []}).encode(), {}, {}),
        ("/predict", b"no picture", {}, {}),
        ("/predict?masks=all", IMAGE, {"masks": "all"}, {}),
        ("/predict", b"", {}, {}),
    ],
)
def test_the_same_bytes(
    foreign: str,
    torchserve: tuple[DetectionHandler, Any],
    path: str,
    body: bytes,
    fields: dict[str, Any],
    headers: dict[str, str],
) -> None:
    handler, context = torchserve
    context.request_processor = [RequestProcessor({"Host": "x", **headers})]
    (theirs,) = handler.handle([{"body": body, **fields}], context)
    ours = httpx.post(foreign + path, content=body, headers=headers)
    status, _ = context.get_response_status(0)
    assert ours.status_code == status
    assert ours.headers["Content-Type"] == context.get_response_content_type(0)
    assert ours.content.replace(b"foreign", b"torchserves") == theirs


def test_the_metadata(foreign: str, torchserve: tuple[DetectionHandler, Any]) -> None:
    handler, context = torchserve
    context.request_processor = [RequestProcessor({"describe": "True"})]
    (theirs,) = handler.handle([{}], context)
    said = json.loads(theirs)
    assert said.pop("workers") == {"others": 0, "busy": 0}, "of TorchServe alone"
    assert httpx.get(f"{foreign}/v2/models/shapes").json() == said
