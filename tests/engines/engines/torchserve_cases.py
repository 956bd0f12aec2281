"""Requests of every kind, and what TorchServe answers to them.

    python -m tests.engines.engines.torchserve_cases REFERENCE ANSWERS

asks a real TorchServe; it runs in the environment that has one.
"""

from __future__ import annotations

import base64
import gzip
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.engines.reference import MODEL, Reference, without_id

_PREDICT = f"/predictions/{MODEL}"
_INFER = f"/v2/models/{MODEL}/infer"


def cases(image: bytes) -> dict[str, dict[str, Any]]:
    """What httpx is to send, by name."""
    text = base64.b64encode(image).decode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
    packed = {"Content-Encoding": "gzip", "Content-Type": "image/jpeg"}
    jpeg = {"Content-Type": "image/jpeg"}
    form = {"files": {"data": image}}

    def to(path: str, **sent: Any) -> dict[str, Any]:
        return {"url": path, **sent}

    return {
        "image": to(_PREDICT, content=image, headers=jpeg),
        "version": to(f"{_PREDICT}/1.0", content=image, headers=jpeg),
        "form": to(_PREDICT, **form),
        "form with options": to(
            _PREDICT, **form, data={"score_thresh": "0.9", "masks": "polygon", "classes": "circle"}
        ),
        "form with body": to(_PREDICT, files={"body": image}, data={"masks": "none"}),
        "picture": to(_PREDICT, **form, data={"draw": "png"}),
        "json": to(_PREDICT, json={"image": text, "max_detections": 2}),
        "header": to(_PREDICT, content=image, headers={**jpeg, "X-D2serve-Masks": "none"}),
        "packed": to(_PREDICT, content=gzip.compress(image), headers=packed),
        "invocations": to("/invocations", content=image, headers=jpeg),
        "no image": to(_PREDICT, content=b"not an image", headers=jpeg),
        "half an image": to(_PREDICT, content=image[:2000], headers=jpeg),
        "bad json": to(
            _PREDICT, content=b'{"image":', headers={"Content-Type": "application/json"}
        ),
        "json without image": to(_PREDICT, json={"picture": text}),
        "unknown option": to(_PREDICT, **form, data={"colour": "red"}),
        "bad option": to(_PREDICT, **form, data={"score_thresh": "2"}),
        "not packed": to(_PREDICT, content=image, headers=packed),
        "form without image": to(_PREDICT, files={"x": (None, "1")}),
        "call": to(_INFER, json={"id": "42", "inputs": [tensor]}),
        "call with options": to(
            _INFER,
            json={
                "id": "43",
                "inputs": [tensor],
                "parameters": {"max_detections": 1},
                "outputs": [{"name": "boxes"}, {"name": "masks"}],
            },
        ),
        "bad call": to(_INFER, json={"id": "44", "inputs": 7}),
        "call of an unknown output": to(
            _INFER, json={"id": "45", "inputs": [tensor], "outputs": [{"name": "smell"}]}
        ),
    }


def answers(address: str, image: bytes, headers: Mapping[str, str]) -> dict[str, list[Any]]:
    """Status, content type and body, without the request's id, of each case."""
    found = {}
    with httpx.Client(base_url=address, timeout=120) as client:
        for name, sent in cases(image).items():
            more = {**headers, **sent.pop("headers", {})}
            answer = client.post(sent.pop("url"), headers=more, **sent)
            body = without_id(answer.content).decode("latin-1")
            found[name] = [answer.status_code, answer.headers["content-type"], body]
    return found


def _main(folder: str, output: str) -> None:
    from d2serve.server.torchserve.process import TorchServeProcess

    reference = Reference(Path(folder))
    with TorchServeProcess(
        {MODEL: reference.archive},
        overrides={"default_workers_per_model": "1"},
        environment={"TS_OPEN_INFERENCE_PROTOCOL": "oip"},
    ) as server:
        token = {"Authorization": f"Bearer {server.inference_token}"}
        image = reference.images[0].read_bytes()
        found = answers(server.inference_address, image, token)
    Path(output).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
