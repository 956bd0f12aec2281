"""What deploy/nginx.conf lets through to a real TorchServe, and what it refuses by name."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from d2serve.server.probes.server import ProbeServer
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import ROOT
from tests.deploy.proxy.conftest import NAME
from tests.deploy.proxy.running import KEY, PAGES, Behind, Proxy, configured, needs_nginx

pytestmark = [pytest.mark.server, pytest.mark.long, needs_nginx]

SAMPLE = ROOT / "examples" / "shapes" / "sample.jpg"
PREDICT = f"/predictions/{NAME}"
AS_IMAGE = {"content-type": "image/jpeg", "x-api-key": KEY}


@pytest.fixture(scope="module")
def photo() -> bytes:
    return SAMPLE.read_bytes()


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """The message of an error in the handler's shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    said: dict[str, Any] = answer.json()
    assert said["error"]["code"] == code
    assert said["request_id"] == answer.headers["x-request-id"]
    return str(said["error"]["message"])


def scores(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    return [each["score"] for each in answer.json()["instances"]]


@pytest.mark.parametrize(
    "headers", [{"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}], ids=["key", "bearer"]
)
def test_a_client_has_a_key_of_the_proxy(
    proxy: Proxy, photo: bytes, headers: dict[str, str]
) -> None:
    with proxy.client(headers={"content-type": "image/jpeg", **headers}) as client:
        answer = client.post(PREDICT, content=photo)
        assert len(scores(answer)) > 1
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
        assert client.put(PREDICT, content=photo).status_code == 200
        assert client.get("/ping").json() == {"status": "Healthy"}
        assert client.get("/v2").json()["name"] == "Torchserve"


def test_nobody_else_is_let_in_and_the_token_stays_behind(
    proxy: Proxy, server: TorchServeProcess, photo: bytes
) -> None:
    token = server.inference_token
    assert token is not None
    with proxy.client() as client:
        for headers in (
            {},
            {"x-api-key": "a guess"},
            {"authorization": f"Bearer {token}"},
            {"authorization": f"Basic {KEY}"},
        ):
            for path in (PREDICT, "/v2/models/shapes/infer", "/ping"):
                message = refused(
                    client.post(path, content=photo, headers=headers), 401, "unauthorized"
                )
                assert "X-API-Key" in message
        shown = client.get("/ping", headers={"x-api-key": KEY})
    assert token not in str(shown.headers) + shown.text
    assert token not in (proxy.folder / "access.log").read_text() + proxy.errors()
    assert KEY not in (proxy.folder / "access.log").read_text()


def test_a_query_is_refused_by_name(proxy: Proxy, photo: bytes) -> None:
    with proxy.client(headers=AS_IMAGE) as client:
        for query, named in (
            ("score_thresh=0.99&masks=none", "'score_thresh'"),
            ("%22%3Cb%3E=1", "'??b?'"),
            ("masks", "'masks'"),
        ):
            message = refused(
                client.post(f"{PREDICT}?{query}", content=photo), 400, "query_not_read"
            )
            assert f"Got {named}" in message or named == "'score_thresh'"
            assert "X-D2serve-score_thresh" in message


def test_an_option_as_a_header_is_passed_on_and_twice_it_is_refused(
    proxy: Proxy, photo: bytes
) -> None:
    option = "X-D2serve-score_thresh"  # nginx drops names with an underscore if it is let
    with proxy.client(headers=AS_IMAGE) as client:
        everything = scores(client.post(PREDICT, content=photo))
        bound = sorted(everything)[len(everything) // 2]
        fewer = scores(client.post(PREDICT, content=photo, headers={option: str(bound)}))
        assert fewer == [score for score in everything if score > bound]
        twice = [*AS_IMAGE.items(), (option, "0.9"), (option, "0.1")]
        message = refused(client.post(PREDICT, content=photo, headers=twice), 400, "given_twice")
        assert "x-d2serve-score_thresh 2 times" in message
        types = [*AS_IMAGE.items(), ("content-type", "application/json")]
        refused(client.post(PREDICT, content=photo, headers=types), 400, "given_twice")


def test_a_form_field_that_comes_twice_is_not_seen(proxy: Proxy, photo: bytes) -> None:
    """As the page says: the last one counts."""
    fields: list[tuple[str, tuple[str | None, bytes]]] = [
        ("data", (None, photo)),
        ("score_thresh", (None, b"1")),
        ("score_thresh", (None, b"0.9")),
    ]
    with proxy.client(headers={"x-api-key": KEY}) as client:
        assert scores(client.post(PREDICT, files=fields))


def test_what_curl_sends_without_a_content_type(proxy: Proxy, tmp_path: Path) -> None:
    curl = [
        *("curl", "--silent", "--fail-with-body", "--noproxy", "*"),
        *("--cacert", str(proxy.certificate), "-H", f"X-API-Key: {KEY}"),
        f"{proxy.address}{PREDICT}",
    ]

    def answer(*arguments: str) -> bytes:
        return subprocess.run([*curl, *arguments], check=True, capture_output=True).stdout

    def without_id(body: bytes) -> bytes:
        return body[body.index(b'"image"') :]

    expected = without_id(answer("-T", str(SAMPLE)))
    photo = f"@{SAMPLE}"
    as_json = tmp_path / "request.json"
    as_json.write_text(json.dumps({"image": base64.b64encode(SAMPLE.read_bytes()).decode()}))
    for way in (("--data-binary", photo), ("-F", f"data={photo}"), ("-d", f"@{as_json}")):
        assert without_id(answer(*way)) == expected


def test_bodies_that_are_too_large(proxy: Proxy) -> None:
    large = b"\0" * (64 * 1024 * 1024 + 1)
    with proxy.client(headers=AS_IMAGE) as client:
        message = refused(client.post(PREDICT, content=large), 413, "too_large")
        assert "64 MiB" in message
        # The longest that is taken is TorchServe's longest, and reaches the handler.
        answer = client.post(PREDICT, content=large[:-1])
    assert answer.status_code in (413, 415)
    assert answer.json()["error"]["code"] in ("image_too_large", "unsupported_image_format")


def test_only_what_is_meant_for_clients_is_there(proxy: Proxy) -> None:
    with proxy.client(headers={"x-api-key": KEY}) as client:
        for path in ("/", "/models", f"/models/{NAME}", "/token", "/api-description", "/metric"):
            message = refused(client.get(path), 404, "not_found")
            assert "/predictions/NAME" in message
        for path in ("/models?url=x.mar", "/invocations", f"/explanations/{NAME}"):
            refused(client.post(path), 404, "not_found")
        refused(client.get("/metrics"), 403, "forbidden")
        refused(client.get(PREDICT), 405, "method_not_allowed")
        refused(client.delete(PREDICT), 405, "method_not_allowed")


def test_metrics_for_an_address_that_is_allowed(behind: Behind, tmp_path: Path) -> None:
    allowed = {"# EDIT: allow 10.0.0.5;": "allow 127.0.0.1;"}
    with configured(tmp_path, behind, allowed) as proxy, proxy.client() as client:
        assert "d2serve_forward_seconds" in client.get("/metrics").text


def test_whether_it_lives_and_is_ready_is_asked_without_a_key(
    proxy: Proxy, probes: ProbeServer, server: TorchServeProcess
) -> None:
    """In the Open Inference Protocol's words; the reasons are only for those on the machine."""
    probes.watch.starting("as if")
    try:
        with proxy.client() as client:
            for path in ("/live", "/v2/health/live"):
                answer = client.get(path)
                assert (answer.status_code, answer.json()) == (200, {"live": True})
            for path in ("/ready", "/v2/health/ready"):
                answer = client.get(path)
                assert (answer.status_code, answer.json()) == (503, {"ready": False})
            probes.watch.serving(server)
            for path in ("/ready", "/v2/health/ready"):
                answer = client.get(path)
                assert (answer.status_code, answer.json()) == (200, {"ready": True})
                assert answer.headers["content-type"] == "application/json"
            assert client.head("/ready").status_code == 200
    finally:
        probes.watch.serving(server)


def test_torchserve_s_refusal_is_of_the_length_by_which_the_proxy_knows_it(
    server: TorchServeProcess,
) -> None:
    for headers in ({}, {"authorization": "Bearer no"}):
        answer = httpx.get(f"{server.inference_address}/ping", headers=headers, trust_env=False)
        assert (answer.status_code, len(answer.content)) == (400, 154)
        assert answer.json()["type"] == "InvalidKeyException"


def test_the_model_s_own_refusals_pass_as_they_are(proxy: Proxy) -> None:
    with proxy.client(headers=AS_IMAGE) as client:
        answer = client.post(PREDICT, content=b"no image")
        refused(answer, 415, "unsupported_image_format")
        unknown = client.post("/predictions/nobody", content=b"x")
        assert unknown.json()["type"] == "ModelNotFoundException"


def test_a_preflight_is_answered_without_a_key(proxy: Proxy, photo: bytes) -> None:
    asks = {
        "origin": PAGES,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-d2serve-score_thresh",
    }
    with proxy.client() as client:
        answer = client.options(PREDICT, headers=asks)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == PAGES
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert (
            answer.headers["access-control-allow-headers"] == asks["access-control-request-headers"]
        )
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers
        answer = client.post(PREDICT, content=photo, headers={**AS_IMAGE, "origin": PAGES})
        assert scores(answer)
        assert answer.headers["access-control-allow-origin"] == PAGES
        assert answer.headers["access-control-expose-headers"] == "X-Request-Id"
        # So that a page can read why it was refused.
        answer = client.post(PREDICT, content=photo, headers={"origin": PAGES})
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == PAGES


def test_a_page_of_another_origin_gets_no_leave(proxy: Proxy, photo: bytes) -> None:
    for origin in ("https://other.example.com", f"{PAGES}.evil.com", "null"):
        with proxy.client(headers={"origin": origin}) as client:
            answer = client.options(PREDICT, headers={"access-control-request-method": "POST"})
            refused(answer, 403, "origin_not_allowed")
            posted = client.post(PREDICT, content=photo, headers=AS_IMAGE)
        for each in (answer, posted):
            assert not any(name.startswith("access-control") for name in each.headers)
            assert each.headers["vary"] == "Origin"


def test_a_line_of_the_log_leads_to_the_request(proxy: Proxy, photo: bytes) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with proxy.client(headers={**AS_IMAGE, "traceparent": trace}) as client:
        answered = client.post(PREDICT, content=photo).headers["x-request-id"]
        turned_away = client.post(f"{PREDICT}?a=1", content=photo).headers["x-request-id"]
    lines = {line["request_id"]: line for line in proxy.log()}
    line = lines[answered]
    assert (line["client"], line["traceparent"], line["path"]) == ("a-test", trace, PREDICT)
    assert (line["status"], line["upstream_status"], line["method"]) == (200, "200", "POST")
    assert line["received"] > len(photo)
    assert lines[turned_away]["status"] == 400


def test_a_deadline_that_is_over(proxy: Proxy, photo: bytes) -> None:
    with proxy.client(headers=AS_IMAGE) as client:
        over = {"X-Request-Deadline": str(time.time() - 1)}
        refused(client.post(PREDICT, content=photo, headers=over), 504, "deadline_exceeded")
        ahead = {"X-Request-Deadline": str(time.time() + 60)}
        assert scores(client.post(PREDICT, content=photo, headers=ahead))


def test_json_with_an_image(proxy: Proxy, photo: bytes) -> None:
    body = {"image": base64.b64encode(photo).decode(), "max_detections": 1}
    with proxy.client(headers={"x-api-key": KEY}) as client:
        assert len(scores(client.post(PREDICT, json=body))) == 1
