"""``d2serve predict``: what is asked of a client, and what is printed of its answer."""

from __future__ import annotations

import inspect
import io
import json
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from d2serve.cli.predictions import predicting, reporting, request_options, server_options
from d2serve.client.connection.settings import ConnectionSettings
from d2serve.client.errors import ClientError, InvalidInput, InvalidOption, ModelFailed
from d2serve.client.results.prediction import Prediction
from d2serve.handlers.requests.options import OPTIONS, Option
from tests.client import handmade

LABELS = np.array([[0, 1, 1, 1]] * 5)
IDS = np.array([[1, 2, 2, 0]] * 5)
ANSWERS: dict[str, dict[str, Any]] = {
    "upright": {"instances": [handmade.instance(0, 0, 0, 2, 2.5, category_name="circle")]},
    "rotated": {"instances": [handmade.instance(3, 2, 2, 4, 1, -45.5)]},
    "none": {"instances": []},
    "semantic": {"sem_seg": handmade.sem_seg(LABELS)},
    "panoptic": {
        "instances": [handmade.instance(0, 0, 0, 1, 5)],
        "panoptic_seg": handmade.panoptic_seg(
            IDS, handmade.thing(IDS, 1), handmade.stuff(IDS, 2, 4, category_name="[sky]")
        ),
    },
    "proposals": {
        "proposals": [handmade.proposal(logit, 0, 0, 1, logit) for logit in (7, *range(20))]
    },
}


FAILURES: dict[str, ClientError] = {
    "rejected": InvalidOption("told", code="invalid_option", status=400, request_id="id-1"),
    "unlucky": ModelFailed("told", code="model_failed", status=None, request_id="id-2"),
    "refused": InvalidInput("told"),
}
UNASKED = {
    "array_format": "RGB",
    "version": None,
    "score_thresh": None,
    "max_detections": None,
    "classes": None,
    "masks": "rle",
    "sem_seg": "png",
    "extra": "json",
}


class Server:
    """Answers each image by the name that it holds, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def predict(self, model: str, image: bytes, **options: Any) -> Prediction:
        assert model == "model"
        self.asked.append(options)
        name = image.decode()
        if name in FAILURES:
            raise FAILURES[name]
        return handmade.prediction(5, 4, **ANSWERS[name])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    running = Server()
    monkeypatch.setattr(predicting, "server_client", lambda *_: running)
    monkeypatch.chdir(tmp_path)
    for name in (*ANSWERS, *FAILURES):
        Path(f"{name}.png").write_text(name)
    return running


def printed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    written = io.StringIO()
    monkeypatch.setattr(reporting, "console", Console(file=written, width=100))
    app = typer.Typer()
    app.command()(predicting.predict)
    result = CliRunner().invoke(app, ["model", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return written.getvalue() + result.stdout


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("upright", ["x0, y0, x1, y1", "circle 0.900 0.0, 0.0, 2.0, 2.5", "1 instance "]),
        ("rotated", ["cx, cy, w, h, angle", "category 3 0.900 2.0, 2.0, 4.0, 1.0, -45.5"]),
        ("none", ["0 instances"]),
        ("semantic", ["name 1 15 75.0% name 0 5 25.0%", "2 classes"]),
        (
            "panoptic",
            ["category 0 thing 1 0.900 0 5 25.0%", "[sky] stuff 2 10 50.0%", "2 segments"],
        ),
        ("proposals", ["19.000 0.0, 0.0, 1.0, 19.0", "10.000", "21 proposals, the best 10 shown"]),
    ],
)
def test_each_kind_of_answer_has_its_table(
    monkeypatch: pytest.MonkeyPatch, server: Server, name: str, told: list[str]
) -> None:
    output = printed(monkeypatch, f"{name}.png")
    assert f"{name}.png  4 x 5  m 1" in output
    words = " ".join(output.translate(str.maketrans("┃│├┼┤", "     ")).split()) + " "
    for each in told:
        assert each in words
    assert server.asked == [UNASKED]


def test_only_the_best_proposals_are_shown(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    output = printed(monkeypatch, "proposals.png")
    assert " 9.000" not in output
    assert server.asked


def test_a_kind_that_the_model_does_not_give_has_no_table(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    assert "instance" not in printed(monkeypatch, "semantic.png")
    assert server.asked


def test_run_lengths_and_another_version_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    options = ("--sem-seg", "rle", "--version", "2.0", "--json")
    line = printed(monkeypatch, "semantic.png", *options)
    assert json.loads(line)["sem_seg"]["size"] == [5, 4]
    assert server.asked == [{**UNASKED, "version": "2.0", "sem_seg": "rle"}]


def test_every_option_reaches_the_client(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    options = ["--score-thresh", "0.5", "--max-detections", "3", "--masks", "polygon"]
    printed(monkeypatch, "none.png", *options, "--classes", "a, b", "--classes", "2")
    asked = {"score_thresh": 0.5, "max_detections": 3, "classes": ["a, b", "2"], "masks": "polygon"}
    assert server.asked == [{**UNASKED, **asked}]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_of_the_server_is_one_of_the_command(option: Option) -> None:
    """``draw`` is another thing here: the folder for pictures that the client draws."""
    taken = inspect.signature(predicting.predict).parameters
    assert option.name in taken
    words: dict[str, type[Enum]] = {
        "masks": request_options.MaskFormat,
        "sem_seg": request_options.SemSegFormat,
        "extra": request_options.ExtraFormat,
    }
    if option.name in words:
        assert [each.value for each in words[option.name]] == list(option.choices)
        assert taken[option.name].default.value == option.default
    elif option.name != "draw":
        assert not option.choices


KEY = ["--token", "t"]
AWAY = ["--address", "192.0.2.1:443"]  # an address that belongs to nobody: RFC 5737


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([*AWAY, *KEY], "https://192.0.2.1:443 if the server"),
        ([*AWAY, *KEY, "--protocol", "grpc"], "--allow-token-in-clear"),
        ([*KEY, "--key-file", "k"], "either --token or --key-file"),
        (["--header", "X-Tenant"], "expected 'Name: value'"),
        (["--ca-file", "ca.pem"], "begins with https"),
    ],
)
def test_how_to_reach_the_server_is_checked_first(options: list[str], told: str) -> None:
    app = typer.Typer()
    app.command()(predicting.predict)
    result = CliRunner().invoke(app, ["model", "a.png", *options], env={"COLUMNS": "400"})
    assert result.exit_code != 0
    assert told in result.output


def test_headers_and_permission_reach_the_client(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    asked: list[Any] = []

    def client(protocol: server_options.Protocol, address: str | None, settings: Any) -> Server:
        asked.append((protocol.value, address, settings))
        return server

    monkeypatch.setattr(predicting, "server_client", client)
    options = ["--header", "X-Tenant: blue", "--header", "a:b:c", "--allow-token-in-clear"]
    printed(monkeypatch, "none.png", *KEY, *AWAY, *options, "--ca-file", "ca.pem")
    settings = {
        "token": "t",
        "key_file": None,
        "ca_file": Path("ca.pem"),
        "headers": {"X-Tenant": "blue", "a": "b:c"},
        "allow_token_in_clear": True,
    }
    assert asked == [("http", "192.0.2.1:443", settings)]
    of_programs = {"timeout", "retry", "server_name"}
    assert {*settings, *of_programs} == {*ConnectionSettings.__annotations__}


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        (
            "rejected",
            "rejected.png: The request was rejected (HTTP 400, invalid_option, request id-1): told",
            {"error": {"code": "invalid_option", "message": "told"}, "request_id": "id-1"},
        ),
        (
            "unlucky",
            "unlucky.png: The model failed on the image (gRPC, model_failed, request id-2): told",
            {"error": {"code": "model_failed", "message": "told"}, "request_id": "id-2"},
        ),
        (
            "refused",
            "refused.png: told",
            {"error": {"code": "InvalidInput", "message": "told"}},
        ),
    ],
)
def test_a_failure_is_one_line_and_the_next_image_is_asked(
    monkeypatch: pytest.MonkeyPatch, server: Server, name: str, line: str, told: dict[str, Any]
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(reporting, "error_console", Console(file=written, width=60))
    app = typer.Typer()
    app.command()(predicting.predict)
    arguments = ["model", f"{name}.png", "none.png", "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 1
    assert written.getvalue() == f"{line}\n"
    failed, answered = result.stdout.splitlines()
    assert json.loads(failed) == told
    assert json.loads(answered)["instances"] == []
    assert len(server.asked) == 2
