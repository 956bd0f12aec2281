"""How sides are asked that are no TorchServe's, and for less than all."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.report.overview import as_markdown
from benchmarks.served.cpp_process import CppProcess
from benchmarks.served.possible import left_out
from benchmarks.served.sides import (
    CPP,
    ONNXRUNTIME_DIRECT,
    OPENVINO,
    OPENVINO_DIRECT,
    TRACING,
    USUAL,
)
from benchmarks.serving.hosts import HttpAsk, Served
from benchmarks.serving.parts import ABOVE, ALL, FEW, NO_MASKS, ask_for_parts
from benchmarks.serving.plan import BenchPlan, Setup
from benchmarks.shared.errors import BenchError
from d2serve.server.asgi.bodies import read_body
from d2serve.server.asgi.heads import Head
from d2serve.server.asgi.reading import is_form, read_request
from d2serve.server.asgi.sending import send_answer
from tests.benchmarks.records import results
from tests.server.asgi.serving import serving


def test_what_needs_a_compiler_is_left_out_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(file: Path) -> list[str]:
        return sorted(left_out(USUAL, file))

    (tmp_path / "program").touch()
    monkeypatch.setattr("benchmarks.served.possible.ways", lambda: ("avx2",))
    assert without(tmp_path / "program") == []
    assert without(tmp_path / "none") == [CPP]
    monkeypatch.setattr("benchmarks.served.possible.ways", lambda: ())
    assert without(tmp_path / "program") == [ONNXRUNTIME_DIRECT, OPENVINO_DIRECT]
    assert BenchPlan().without([CPP]).sides == tuple(each for each in USUAL if each != CPP)
    told = as_markdown(replace(results(), left_out=left_out(USUAL, tmp_path), winograd=()))
    assert "every convolution is direct" in told
    assert "was left out: the program is not built here" in told


def _first_answer(process: CppProcess) -> bytes:
    process.wait_ready()
    return process.ask(b"picture")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'load 1 ms' >&2; "
            # To the pipe's end, as the program reads: the next one begins when the writer has gone.
            'while { read -r given; read -r _; [ -n "$given" ]; } < p.jpg; '
            "do echo \"$given\"; echo 'forward 1' >&2; done",
            "",
        ),
        ("echo 'There is no such model.' >&2", "There is no such model"),
        ("echo 'load 1 ms' >&2; echo 'It is no picture.' >&2", "It is no picture"),
    ],
)
def test_a_program_is_asked_as_a_server_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("benchmarks.served.cpp_process.CPP_PROGRAM", program)
    with CppProcess(tmp_path, threads=1) as process:
        if said:
            with pytest.raises(BenchError, match=said):
                _first_answer(process)
            return
        process.wait_ready()
        for each in (b"one\n", b"p" * 100_000 + b"\n", b"two\n"):  # the second overfills a pipe
            assert process.ask(each) == each
        time.sleep(0.05)
        assert psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING


def _least_of(options: dict[str, str], asked: list[dict[str, str]]) -> bytes:
    """What a server of five instances answers."""
    asked.append(options)
    scores = [0.9, 0.8, 0.7, 0.6, 0.5]
    few = [each for each in scores if each > float(options.get("score_thresh", 0))]
    few = few[: int(options.get("max_detections", 5))]
    return json.dumps({"instances": [{"score": each} for each in few]}).encode()


def test_less_than_all_is_asked_for_by_options_that_arrive() -> None:
    """Of each side at a stretch, after a request that counts for no kind: one after a pause."""
    asked: list[dict[str, str]] = []
    timed: list[int] = []
    plan = BenchPlan(detections=5, few_instances=2, part_rounds=2, least_requests=1)
    with serving(_form_answerer(lambda options: _least_of(options, asked))) as address:
        served = _tracing_at(address)
        sides = {TRACING: served, OPENVINO: replace(served, side=OPENVINO)}
        parts = ask_for_parts(sides, b"picture", plan, lambda: timed.append(len(asked)))
    assert [set(each.throughput) for each in parts.values()] == [{ALL, NO_MASKS, FEW, ABOVE}] * 2
    assert asked[0] == {}
    kinds = [{}, {"masks": "none"}, {"max_detections": "2"}, {"score_thresh": "0.75"}]
    assert asked[6:] == [{}, *kinds * 2] * 2
    assert timed == [*range(8, 16), *range(17, 25)]


def test_options_that_do_not_arrive_stop_the_run() -> None:
    plan = BenchPlan(detections=5, few_instances=2)
    with serving(_form_answerer(lambda _: _least_of({}, []))) as address:
        served = _tracing_at(address)
        with pytest.raises(BenchError, match="5 instances where 2 were asked for"):
            ask_for_parts({TRACING: served}, b"picture", plan, lambda: None)


def test_the_first_request_is_not_kept_waiting_for_certificates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("to read certificates takes as long as a small model's answer")

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", read)
    with serving(_form_answerer(lambda options: _least_of(options, []))) as address:
        assert HttpAsk(address, "/predictions/tracing", {})(b"picture")


def _tracing_at(address: str) -> Served:
    ask = HttpAsk(address, "/predictions/tracing", {})
    return Served(TRACING, Setup(1, 1), (ask,), (), lambda: None)


def _form_answerer(answer: Callable[[dict[str, str]], bytes]) -> Any:
    """An application that reads a picture, as it is or in a form with options."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = await read_body(receive, Head.of(scope), 1 << 20, 10)
        options: dict[str, str] = {}
        if is_form(Head.of(scope)):
            fields = read_request(Head.of(scope), body, time.time() + 10, False).fields
            options = {name: bytes(value).decode() for name, value in fields.items()}
        else:
            assert body == b"picture"
        await send_answer(send, answer(options), {})

    return application
