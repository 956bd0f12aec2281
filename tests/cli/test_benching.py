"""``d2serve bench`` says what it measured, for people and for machines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from d2serve.cli.app import app
from d2serve.cli.models import benching
from d2serve.server.measuring.machine import this_machine
from tests.server.measuring.programs import packed


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, words)], env={"COLUMNS": "120"})


def test_figures_are_printed_as_json_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = replace(this_machine(), cores=2)
    monkeypatch.setattr(benching, "this_machine", lambda: machine)
    archive = packed(tmp_path)
    kept = tmp_path / "kept"
    result = run(archive, "--seconds", "1", "--json", "--output", kept)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads((kept / "bench.json").read_text())
    assert (kept / "bench.png").stat().st_size > 10_000
    assert {row["archive"] for row in report["rows"]} == {"small.mar"}
    assert report["advice"]["lines"][0]["file"] == "config.properties"
    for row in report["rows"]:
        assert row["images_per_second"]["value"] > 10
        assert row["latency_ms"]["p50"] <= row["latency_ms"]["p99"]
    assert "Not measured, for want of an archive: torchscript fp32, openvino fp32" in result.stderr


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    for words, said in (
        (["config.yaml"], "No archive is named"),
        ([packed(tmp_path), "MODEL.WEIGHTS", "x.pth"], "MODEL.WEIGHTS is no archive"),
        ([tmp_path / "nothing.mar"], "there is no such file"),
        ([tmp_path / "small.mar", "--seconds", "0"], "--seconds is 0"),
        ([tmp_path / "small.mar", "--images", tmp_path / "none"], "cannot be read"),
        ([tmp_path / "small.mar", "--coco-json", "a.json"], "give both or neither"),
    ):
        result = run(*words)
        assert result.exit_code == 1
        assert said in " ".join(result.stderr.split()), said
