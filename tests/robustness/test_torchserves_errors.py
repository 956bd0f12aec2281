"""Every error that TorchServe itself answers is in docs/requests.md; each is caused here.

They were looked up in its source (``HttpRequestHandler``, ``NettyUtils``, ``ApiUtils``), 0.12.
"""

from __future__ import annotations

import socket
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from d2serve.client.connection.server_errors import http_error
from d2serve.client.connection.settings import Connection
from d2serve.server.torchserve.process import TorchServeProcess
from tests.client.conftest import make_archive
from tests.client.test_errors_page import TORCHSERVES_OWN

pytestmark = pytest.mark.server

HANDLER = """
import os, time


class CausingHandler:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        for item in data:
            wish = bytes(item.get("body") or b"").decode()
            if wish == "die":
                os._exit(1)
            if wish == "raise":
                raise RuntimeError("as told")
            if wish == "memory":
                raise MemoryError
            if wish == "slow":
                time.sleep(0.5)
        return [b"{}"] * len(data)
"""
CAUSED_ELSEWHERE = {
    # tests/robustness/test_more_than_java_holds.py: not on every machine
    ("OutOfMemoryError", "507"),
    # no way was found: of a clean-up that takes longer than unregister_model_timeout, 120 s
    ("RequestTimeoutException", "408"),
}
ROWS = {(row[0], row[1]): row for row in TORCHSERVES_OWN if row[1] != "–"}


class Asker:
    """Asks one server in every wrong way."""

    def __init__(self, server: TorchServeProcess) -> None:
        self.server = server
        self.inference = self._client(server.inference_address, server.inference_token)
        self.management = self._client(server.management_address, server.management_token)

    def _client(self, address: str, token: str | None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=address, headers=headers, timeout=60, trust_env=False)

    def close(self) -> None:
        self.inference.close()
        self.management.close()

    def post(self, path: str = "/predictions/causing", **request: object) -> httpx.Response:
        return self.inference.post(path, **request)  # type: ignore[arg-type]

    def part(self, *headers: str, charset: str = "utf-8") -> httpx.Response:
        head = 'Content-Disposition: form-data; name="data"; filename="a.png"'
        body = "\r\n".join(["--x", head, *headers, "", "AAAA", "--x--", ""])
        kind = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
        return self.post(content=body, headers=kind)

    def register(self, file: str) -> httpx.Response:
        return self.management.post("/models", params={"url": file, "initial_workers": 0})

    def killed(self) -> httpx.Response:
        return self.post(content=b"die")

    def full(self) -> httpx.Response:
        """Of a queue of one."""

        def ask(_: int) -> httpx.Response:
            with self._client(self.server.inference_address, self.server.inference_token) as own:
                return own.post("/predictions/causing", content=b"slow")

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(ask, range(6)))
        return next(each for each in answers if each.status_code == 503)

    def raw(self, *lines: str) -> httpx.Response:
        """What no HTTP client would send."""
        address = urlsplit(self.server.inference_address)
        token = f"Authorization: Bearer {self.server.inference_token}"
        head = ("POST /predictions/causing HTTP/1.1", "Host: x", token, *lines, "", "")
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            connection.sendall("\r\n".join(head).encode())
            answer = connection.recv(65_536).decode()
        status_line, _, rest = answer.partition("\r\n")
        return httpx.Response(int(status_line.split()[1]), text=rest.partition("\r\n\r\n")[2])


def default_version(ask: Asker) -> httpx.Response:
    ask.register("causing2.mar").raise_for_status()
    return ask.management.delete("/models/causing/1.0")


WAYS: dict[tuple[str, str], Callable[[Asker], httpx.Response]] = {
    ("InvalidKeyException", "400"): lambda ask: ask.post(headers={"Authorization": "Bearer x"}),
    ("BadRequestException", "400"): lambda ask: ask.raw("Content-Length: many"),
    ("DownloadArchiveException", "400"): lambda ask: ask.register("http://127.0.0.1:9/a.mar"),
    ("InvalidModelException", "400"): lambda ask: ask.register("nameless.mar"),
    ("IllegalArgumentException", "403"): lambda ask: ask.post("/predictions/%zz"),
    ("UnsupportedCharsetException", "403"): lambda ask: ask.part(charset="no"),
    ("InvalidModelVersionException", "403"): default_version,
    ("ResourceNotFoundException", "404"): lambda ask: ask.post("/predict"),
    ("ModelNotFoundException", "404"): lambda ask: ask.post("/predictions/none"),
    ("ModelVersionNotFoundException", "404"): lambda ask: ask.post("/predictions/causing/9.9"),
    ("WorkflowNotFoundException", "404"): lambda ask: ask.post("/wfpredict/none"),
    ("MethodNotAllowedException", "405"): lambda ask: ask.management.put("/models"),
    ("ConflictStatusException", "409"): lambda ask: ask.register("causing.mar"),
    ("no body", "413"): lambda ask: ask.raw("Content-Length: 99999999"),
    ("no body", "417"): lambda ask: ask.raw("Expect: miracles", "Content-Length: 0"),
    ("ErrorDataDecoderException", "500"): lambda ask: ask.part("Content-Transfer-Encoding: base64"),
    ("InternalServerException", "500"): Asker.killed,
    ("no type", "501"): lambda ask: ask.post("/v2/models/causing/versions/1.0/infer"),
    ("ServiceUnavailableException", "503"): Asker.full,
    ("InternalServerException", "503"): lambda ask: ask.post(content=b"raise"),
    ("InternalServerException", "507"): lambda ask: ask.post(content=b"memory"),
}


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    store = tmp_path_factory.mktemp("causing") / "store"
    store.mkdir()
    make_archive(store, "causing", HANDLER, "1.0")
    second = make_archive(store, "causing2", HANDLER, "2.0")
    _change_manifest(second, store / "nameless.mar", '"modelName"', '"nobody"')
    _change_manifest(second, second, '"causing2"', '"causing"')
    overrides = {"job_queue_size": "1", "allowed_urls": "http://.*"}
    oip = {"TS_OPEN_INFERENCE_PROTOCOL": "oip"}
    models = {"causing": "causing.mar"}
    with TorchServeProcess(
        models, model_store=store, overrides=overrides, environment=oip
    ) as server:
        asker = Asker(server)
        yield asker
        asker.close()


def _change_manifest(source: Path, target: Path, old: str, new: str) -> None:
    with zipfile.ZipFile(source) as archive:
        files = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            is_manifest = name.endswith("MANIFEST.json")
            archive.writestr(
                name, data.decode().replace(old, new).encode() if is_manifest else data
            )


@pytest.mark.parametrize("says", WAYS, ids=" ".join)
def test_it_is_answered_as_the_page_says(ask: Asker, says: tuple[str, str]) -> None:
    response = WAYS[says](ask)
    kind, status = says
    assert str(response.status_code) == status, response.text
    if kind == "no body":
        assert not response.content
    else:
        assert response.json().get("type", "no type") == kind
    error = http_error(response.status_code, response.content, Connection("inference", "127.0.0.1"))
    assert type(error).__name__ == ROWS[says][3]


def test_every_row_is_caused() -> None:
    assert set(ROWS) == {*WAYS, *CAUSED_ELSEWHERE}
