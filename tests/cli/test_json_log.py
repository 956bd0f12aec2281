"""``d2serve serve --log-format json``: what stands on standard output of a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from d2serve.client import D2ServeClient, D2ServeGrpcClient
from d2serve.client.management import ManagementClient
from d2serve.server.torchserve.config.ports import Ports
from tests.cli.test_serving import User, make_archive, port_options, user
from tests.handlers.programs import UNLUCKY, write_archive
from tests.handlers.requests.test_tracing import ID, SPAN, VALID
from tests.robustness.conftest import ONE_WORKER, pack
from tests.robustness.sending import grey

__all__ = ["user"]

pytestmark = pytest.mark.server


@pytest.fixture
def serving(user: User, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Ports]]:
    """A server of ``shapes.mar``, and of ``boxes.mar``, whose handler fails on JSON."""
    store = make_archive(user.folder).parent
    (tmp_path / "source").mkdir()
    pack(write_archive(tmp_path / "source"), store, "shapes", dict(ONE_WORKER))
    ports = Ports.free()
    process = user.start("serve", "--log-format=json", *port_options(ports))
    try:
        assert process.stderr is not None
        said = ""
        while "Ctrl-C" not in said:
            line = process.stderr.readline()
            assert line, process.communicate()
            said += line
        yield process, ports
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=90)


def asked(ports: Ports, folder: Path) -> dict[str, str]:
    """Send requests of several kinds; the ids of those that reached the model, by kind."""
    key_file = folder / "key_file.json"
    client = D2ServeClient(f"127.0.0.1:{ports.inference}", key_file=key_file)
    grpc = D2ServeGrpcClient(f"127.0.0.1:{ports.grpc_inference}", key_file=key_file)
    token = json.loads(key_file.read_text())["inference"]["key"]
    headers = {"authorization": f"Bearer {token}", "content-type": "application/octet-stream"}
    ids = {}
    with client, grpc:
        for name, image in (("good", grey(51)), ("bad", b"bad"), ("failed", grey(UNLUCKY))):
            reply = httpx.post(
                f"http://127.0.0.1:{ports.inference}/predictions/shapes",
                content=image,
                headers={**headers, "traceparent": VALID},
                trust_env=False,
                timeout=60,
            )
            ids[name] = reply.headers["x-request-id"]
        ids["grpc"] = str(grpc.predict("shapes", grey(51)).raw["request_id"])
    for path in ("none%0a%22", "boxes"):
        httpx.post(
            f"http://127.0.0.1:{ports.inference}/predictions/{path}",
            json={"a": 1},
            headers={"authorization": headers["authorization"]},
            trust_env=False,
            timeout=60,
        )
    return ids


def test_every_line_is_an_object(user: User, serving: tuple[subprocess.Popen[str], Ports]) -> None:
    process, ports = serving
    before = datetime.now(timezone.utc)
    ids = asked(ports, user.folder)
    with ManagementClient(
        f"127.0.0.1:{ports.management}", key_file=user.folder / "key_file.json"
    ) as management:
        (worker,) = management.describe("shapes")[0].workers
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(1)  # for Java's word on that
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert "Stopped." in errors

    events: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
    for event in events:
        assert list(event)[:5] == ["time", "level", "logger", "source", "message"]
        assert event["time"].endswith("Z")
        at = datetime.fromisoformat(event["time"].replace("Z", "+00:00"))
        assert abs((at - before).total_seconds()) < 600
        assert "\n20" not in event["message"], "two events in one"
    of_requests = {e["request_id"]: e for e in events if e["logger"] == "d2serve.request"}
    assert set(of_requests) == set(ids.values())
    good, bad, failed, grpc = (of_requests[ids[name]] for name in ("good", "bad", "failed", "grpc"))
    assert {(each["model"], each["version"]) for each in of_requests.values()} == {
        ("shapes", "1.0")
    }
    assert [each["status"] for each in (good, bad, failed, grpc)] == [200, 415, 500, 200]
    assert (good["width"], good["height"], good["objects"], good["batch"]) == (30, 20, 1, 1)
    assert set(good["ms"]) == {"decode", "preprocess", "forward", "postprocess", "encode"}
    for each in (good, bad, failed):
        assert (each["trace_id"], each["span_id"]) == (ID, SPAN)
    assert "trace_id" not in grpc
    assert (failed["level"], failed["code"]) == ("ERROR", "model_failed")

    accessed = [e for e in events if e["logger"] == "ACCESS_LOG"]
    over_http = [
        (e["method"], e["path"], e["status"]) for e in accessed if "/predictions/" in e["path"]
    ]
    path = "/predictions/shapes"
    assert over_http == [
        *(("POST", path, status) for status in (200, 415, 500)),
        ("POST", "/predictions/none%0a%22", 404),
        ("POST", "/predictions/boxes", 503),
    ]
    assert all(isinstance(e["duration_ms"], int) for e in accessed)
    assert [e["grpc_status"] for e in accessed if e["method"] == "gRPC"] == [0]

    (death,) = [e for e in events if "java.lang.InterruptedException" in e["message"]]
    assert death["message"].count("\tat ") > 3, "the whole traceback in one event"
    (traceback,) = [e for e in events if "Traceback (most recent call last)" in e["message"]]
    assert traceback["level"] == "ERROR"
    assert traceback["message"].splitlines()[-1].startswith("TypeError: ")
    assert traceback["source"].startswith("W-")
