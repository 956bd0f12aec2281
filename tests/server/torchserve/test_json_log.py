"""TorchServe's lines as JSON objects: what is read of them, and what becomes one event."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import pytest

from d2serve.server.torchserve.logs import joining
from d2serve.server.torchserve.logs.json_lines import JsonLines
from d2serve.server.torchserve.logs.records import REQUESTS, WORKERS

TIME = "2026-11-30T20:09:10,642"
ONE, OTHER = "W-9000-shapes_1.0-stdout", "W-9001-shapes_1.0-stdout"
TRACEBACK = """\
d2serve: asking the model failed
Traceback (most recent call last):
  File "detector.py", line 5, in answer
    raise ValueError("unlucky")
ValueError: unlucky

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "service.py", line 7, in reply
    fail()
    ^^^^^^
d2serve.handlers.errors.ModelFailed: again
""".splitlines()


def of_worker(text: str, source: str = ONE) -> str:
    return f"{TIME} [INFO ] {source} {WORKERS} - {text}"


def of_java(text: str, logger: str = "org.pytorch.serve.ModelServer", source: str = "main") -> str:
    return f"{TIME} [WARN ] {source} {logger} - {text}"


def objects(*lines: str) -> list[dict[str, Any]]:
    written: list[str] = []
    log = JsonLines(written.append)
    for line in lines:
        log(line)
    log.close()
    assert all(line.isascii() and line.isprintable() for line in written)
    return [json.loads(line) for line in written]


def test_a_line_of_java() -> None:
    (found,) = objects(of_java("Invalid model config"))
    local = datetime.fromisoformat(TIME.replace(",", ".")).astimezone()
    assert found.pop("time").endswith(".642Z")
    assert found == {
        "level": "WARN",
        "logger": "org.pytorch.serve.ModelServer",
        "source": "main",
        "message": "Invalid model config",
    }
    again = objects(of_java("x"))[0]["time"].replace("Z", "+00:00")
    assert datetime.fromisoformat(again) == local, "in UTC, whatever the machine's time zone is"


def test_the_access_log_over_http_and_grpc() -> None:
    http, grpc, odd = objects(
        of_java(
            '/127.0.0.1:37926 "POST /predictions/a?b="c d" HTTP/1.1" 415 43', "ACCESS_LOG", "W-9"
        ),
        of_java('/[0:0:0:0]:4 "gRPC org.x.Service/Predictions HTTP/2.0" 13 228', "ACCESS_LOG"),
        of_java("of another form", "ACCESS_LOG"),
    )
    assert {name: http[name] for name in list(http)[5:]} == {
        "client": "127.0.0.1:37926",
        "method": "POST",
        "path": '/predictions/a?b="c d"',
        "protocol": "HTTP/1.1",
        "status": 415,
        "duration_ms": 43,
    }
    assert {name: grpc[name] for name in ("method", "path", "grpc_status", "duration_ms")} == {
        "method": "gRPC",
        "path": "org.x.Service/Predictions",
        "grpc_status": 13,
        "duration_ms": 228,
    }
    assert odd["message"] == "of another form"


def test_a_request() -> None:
    fields = {"level": "ERROR", "message": "failed", "request_id": "7", "ms": {"decode": 1.5}}
    (found,) = objects(of_worker(f"d2serve: {json.dumps(fields)}"))
    assert found.pop("time")
    assert found == {
        "level": "ERROR",
        "logger": REQUESTS,
        "source": ONE,
        "message": "failed",
        "request_id": "7",
        "ms": {"decode": 1.5},
    }


@pytest.mark.parametrize("text", ["{", "{}", '{"level": 1}', '{"request_id": "7", "message": "x"}'])
def test_what_only_looks_like_a_request_is_a_message(text: str) -> None:
    (found,) = objects(of_worker(f"d2serve: {text}"))
    assert (found["logger"], found["message"]) == (WORKERS, f"d2serve: {text}")


def test_the_line_of_an_older_archive_is_a_message() -> None:
    (found,) = objects(of_worker("d2serve: 7 refused: 415 unsupported_image_format"))
    assert found["message"] == "d2serve: 7 refused: 415 unsupported_image_format"


def test_javas_exception_is_one_event_with_its_message() -> None:
    frames = ["java.lang.InterruptedException: null", "\tat java.lang.Thread.run(Thread.java)"]
    banner = ["", "######", "TorchServe now enforces token authorization", ""]
    found = objects(of_java("died"), *frames, of_java(""), *banner, of_java("next"))
    assert [each["message"] for each in found] == [
        "\n".join(["died", *frames]),
        "######\nTorchServe now enforces token authorization",
        "next",
    ]


def test_a_workers_traceback_is_one_event_among_those_of_others() -> None:
    lines = [of_worker("before"), of_java("meanwhile")]
    for text in TRACEBACK:
        lines += [of_worker(text), of_worker(f"other {text.strip()}", OTHER), of_java("between")]
    lines += [of_worker('d2serve: {"level": "ERROR", "message": "failed"}'), of_worker("after")]
    found = objects(*lines)
    own = [each for each in found if each["source"] == ONE]
    assert [each["message"] for each in own] == ["before", "\n".join(TRACEBACK), "failed", "after"]
    assert [each["level"] for each in own] == ["INFO", "ERROR", "ERROR", "INFO"]
    assert sum(each["message"] == "between" for each in found) == len(TRACEBACK)


def test_a_message_behind_a_traceback_is_another_event() -> None:
    simple = [*TRACEBACK[:5], "d2serve: shapes 1.0 is ready, pid 7", "Listening on port: x"]
    found = objects(*map(of_worker, simple))
    assert [each["message"].splitlines()[-1] for each in found] == [simple[4], *simple[5:]]


def test_an_event_does_not_wait_for_the_next() -> None:
    written: list[str] = []
    log = JsonLines(written.append)
    log(of_java("the last for a long time"))
    deadline = time.monotonic() + 20
    while not written:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    log("Model server started.")
    log.close()
    assert [json.loads(line)["logger"] for line in written][1:] == ["torchserve"]


def test_a_traceback_without_end_is_cut() -> None:
    lines = ["Traceback (most recent call last):", *[f"  frame {i}" for i in range(1200)]]
    found = objects(*map(of_worker, lines))
    assert [each["message"].count("\n") + 1 for each in found] == [500, 500, 201]


def test_whoever_stops_reading_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "SECONDS_TO_WAIT", 0.0)
    calls = []

    def fail(line: str) -> None:
        calls.append(line)
        raise BrokenPipeError

    log = JsonLines(fail)
    for _ in range(3):
        log(of_java("x"))
    log.close()
    assert len(calls) == 1
