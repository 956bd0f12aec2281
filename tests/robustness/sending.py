"""Requests as strangers send them, without our client's care."""

from __future__ import annotations

from typing import Any

import httpx
from PIL import Image

from d2serve.server.torchserve.process import TorchServeProcess
from tests.handlers.samples import saved


def grey(value: int) -> bytes:
    """A small picture of one grey."""
    return saved(Image.new("RGB", (30, 20), (value, value, value)), "PNG")


class Sender:
    """Of one server; may be used from several threads."""

    def __init__(self, server: TorchServeProcess) -> None:
        self.server = server
        self.headers = {"Authorization": f"Bearer {server.inference_token}"}
        self.http = httpx.Client(
            base_url=server.inference_address, headers=self.headers, timeout=60, trust_env=False
        )

    def post(self, path: str = "/predictions/shapes", **request: Any) -> httpx.Response:
        return self.http.post(path, **request)

    def image(self, data: bytes, model: str = "shapes", **headers: str) -> httpx.Response:
        headers = {"content-type": "application/octet-stream", **headers}
        return self.post(f"/predictions/{model}", content=data, headers=headers)

    def form(self, data: bytes, model: str = "shapes", **options: str) -> httpx.Response:
        return self.post(f"/predictions/{model}", files={"data": data}, data=options)

    def workers(self) -> dict[str, tuple[int, str]]:
        token = {"Authorization": f"Bearer {self.server.management_token}"}
        found = {}
        for model in ("shapes", "ground"):
            url = f"{self.server.management_address}/models/{model}"
            (described,) = httpx.get(url, headers=token, trust_env=False, timeout=60).json()
            (worker,) = described["workers"]
            found[model] = (worker["pid"], worker["status"])
        return found


def refusal(response: httpx.Response, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    return str(error["message"])
