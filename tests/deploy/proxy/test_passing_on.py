"""What reaches the server behind deploy/nginx.conf, and when; what is said when it is not there."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import shutil
import socket
import ssl
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from d2serve.client import D2ServeGrpcClient, ServerOverloaded
from d2serve.client.connection.retrying import NO_RETRY
from tests.deploy.proxy.running import KEY, Behind, Proxy, configured, needs_nginx
from tests.deploy.proxy.stand_ins import Echo

pytestmark = [pytest.mark.long, needs_nginx]

PREDICT = "/predictions/shapes"


def test_the_client_s_secrets_stay_and_torchserve_s_token_goes_on(echoing: Proxy) -> None:
    sent = {
        "authorization": "Bearer of a client",
        "x-api-key": KEY,
        "cookie": "session=1",
        "X-D2serve-score_thresh": "0.5",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "x-proxy-request": "forged",
        "content-type": "image/png",
    }
    with echoing.client(headers=sent) as client:
        reached = client.post(PREDICT, content=b"x" * 3_000_000).json()
    headers = reached["headers"]
    assert headers["authorization"] == "Bearer of-torchserve"
    assert not {"x-api-key", "cookie", "x-proxy-request"} & set(headers)
    assert headers["x-d2serve-score_thresh"] == "0.5"
    assert headers["traceparent"] == sent["traceparent"]
    assert headers["content-type"] == "image/png"
    assert (reached["path"], reached["bytes"]) == (PREDICT, 3_000_000)


@pytest.mark.parametrize("sent", [None, "application/x-www-form-urlencoded; charset=x"])
def test_a_body_of_no_type_or_called_a_form_is_passed_on_as_bytes(
    echoing: Proxy, sent: str | None
) -> None:
    headers = {"x-api-key": KEY} | ({} if sent is None else {"content-type": sent})
    with echoing.client(headers=headers) as client:
        reached = client.post(PREDICT, content=b"x").json()
    assert reached["headers"]["content-type"] == "application/octet-stream"


def test_a_deadline_is_set_where_the_client_sets_none(echoing: Proxy) -> None:
    with echoing.client(headers={"x-api-key": KEY}) as client:
        reached = client.post(PREDICT, content=b"x").json()
        clock, seconds = reached["headers"]["x-request-deadline"].split("+")
        assert float(clock) == pytest.approx(reached["at"], abs=5)
        assert seconds == "130"
        reached = client.post(PREDICT, content=b"x", headers={"x-request-deadline": "17"}).json()
        assert reached["headers"]["x-request-deadline"] == "17"


def test_a_slow_sender_holds_nothing_of_the_server(echoing: Proxy, echo: Echo) -> None:
    trusted = ssl.create_default_context(cafile=echoing.certificate)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n"
    with (
        socket.create_connection(("127.0.0.1", echoing.port)) as plain,
        trusted.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode() + b"x" * 50_000)
        time.sleep(1)
        assert echo.connections == 0
        connection.sendall(b"x" * 50_000)
        assert b"200 OK" in connection.recv(100)
    assert echo.connections == 1


def test_a_body_of_unknown_length(echoing: Proxy) -> None:
    with echoing.client(headers={"x-api-key": KEY}) as client:
        reached = client.post(PREDICT, content=(b"x" * 1000 for _ in range(2000))).json()
    assert reached["bytes"] == 2_000_000
    assert reached["headers"]["content-length"] == "2000000"


def test_a_refusal_leaves_nothing_of_its_body_on_the_connection(echoing: Proxy, echo: Echo) -> None:
    """Which would be read as the next request."""
    smuggled = f"POST /smuggled HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode()
    with echoing.client(headers={"x-api-key": KEY}) as client:
        for _ in range(3):
            refused = client.post(f"{PREDICT}?a=1", content=smuggled * 3000)
            assert refused.status_code == 400
            assert client.post(PREDICT, content=b"x").json()["bytes"] == 1
    assert {line["path"] for line in echoing.log()} == {PREDICT}
    assert echo.connections == 3


def test_each_request_reads_the_token_anew(echoing: Proxy, before_echo: Behind) -> None:
    with echoing.client(headers={"x-api-key": KEY}) as client:
        for token in ("first", "second"):
            keys = {"management": {"key": "m"}, "inference": {"key": token}}
            before_echo.key_file.write_text(json.dumps(keys, indent=2))
            reached = client.post(PREDICT, content=b"x").json()["headers"]
            assert reached["authorization"] == f"Bearer {token}"


def test_who_is_refused_as_for_a_token_is_asked_twice_and_gets_the_second_answer(
    echoing: Proxy, echo: Echo
) -> None:
    """An answer of the model may have that length."""
    echo.refusal = (400, b"x" * 154)
    with echoing.client(headers={"x-api-key": KEY}) as client:
        answer = client.post(PREDICT, content=b"x")
    assert (answer.status_code, answer.content) == echo.refusal
    assert echo.connections == 2
    assert "does `d2serve serve` renew it?" in echoing.errors()
    echo.refusal = (400, b"x" * 155)
    with echoing.client(headers={"x-api-key": KEY}) as client:
        assert client.post(PREDICT, content=b"x").status_code == 400
    assert echo.connections == 3


@pytest.mark.skipif(os.getuid() != 0, reason="only root may start nginx for another user")
def test_the_user_of_nginx_needs_to_read_the_tokens(before_echo: Behind) -> None:
    folder = Path(tempfile.mkdtemp(prefix="d2serve-proxy-"))
    try:
        folder.chmod(0o711)
        key_file = Path(shutil.copy(before_echo.key_file, folder))
        key_file.chmod(0o600)
        other = {f"user {getpass.getuser()};": "user nobody nogroup;"}
        moved = dataclasses.replace(before_echo, key_file=key_file)
        with configured(folder, moved, other) as proxy, proxy.client() as client:
            headers = {"x-api-key": KEY}
            large = b"x" * 3_000_000  # goes through a file
            assert client.post(PREDICT, content=large, headers=headers).status_code == 503
            assert "may the user that nginx runs as read it?" in proxy.errors()
            shutil.chown(key_file, "nobody")
            assert client.post(PREDICT, content=large, headers=headers).status_code == 200
    finally:
        shutil.rmtree(folder)


def test_tokens_that_cannot_be_read(echoing: Proxy, before_echo: Behind, echo: Echo) -> None:
    before_echo.key_file.unlink()
    with echoing.client(headers={"x-api-key": KEY}) as client:
        answer = client.post(PREDICT, content=b"x")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
    assert f"no inference token in {before_echo.key_file}" in echoing.errors()
    assert echo.connections == 0


def test_a_server_that_is_gone_or_late(before_echo: Behind, echo: Echo, tmp_path: Path) -> None:
    hurried = {"proxy_read_timeout 130s;": "proxy_read_timeout 1s;"}
    echo.seconds = 3
    folder = tmp_path / "hurried"
    folder.mkdir()
    with configured(folder, before_echo, hurried) as proxy, proxy.client() as client:
        answer = client.post(PREDICT, content=b"x", headers={"x-api-key": KEY})
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "too_late")
        assert answer.json()["request_id"] == proxy.log()[-1]["request_id"]
    assert echo.connections == 1, "a prediction is not asked twice for that"
    before_echo.inference = 1
    folder = tmp_path / "gone"
    folder.mkdir()
    with configured(folder, before_echo) as proxy, proxy.client() as client:
        answer = client.post(PREDICT, content=b"x", headers={"x-api-key": KEY})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


def test_the_limits_for_each_client_as_the_comments_have_them(
    before_echo: Behind, echo: Echo, tmp_path: Path
) -> None:
    echo.seconds = 4
    limits = {
        "# limit_conn_zone ": "limit_conn_zone ",
        "# limit_req_zone ": "limit_req_zone ",
        "server_tokens off;": "server_tokens off; limit_conn at_once 8; "
        "limit_req zone=often burst=20;",
    }
    folder = tmp_path / "limited"
    folder.mkdir()
    with (
        configured(folder, before_echo, limits) as proxy,
        proxy.client(headers={"x-api-key": KEY}) as client,
        ThreadPoolExecutor(12) as pool,
    ):
        over_grpc = D2ServeGrpcClient(
            proxy.address, ca_file=proxy.certificate, token=KEY, retry=NO_RETRY
        )
        asking = pool.map(lambda _: client.post(PREDICT, content=b"x"), range(12))
        time.sleep(1)  # eight are being waited for
        with over_grpc, pytest.raises(ServerOverloaded, match="more at once than it may"):
            over_grpc.predict("shapes", b"x")
        answers = list(asking)
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * 8 + [429] * 4
    assert all(
        answer.json()["error"]["code"] == "too_many_requests"
        for answer in answers
        if answer.status_code == 429
    )


def test_the_inner_server_is_for_nginx_alone(echoing: Proxy, echo: Echo) -> None:
    """Whoever else is on this machine would get in without a key."""
    address = f"http://127.0.0.1:{echoing.inner_port}{PREDICT}"
    for headers in ({}, {"x-proxy-request": "0" * 32}):
        assert httpx.post(address, headers=headers, trust_env=False).status_code == 403
    assert echo.connections == 0
