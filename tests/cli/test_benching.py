"""``d2serve bench`` says what it measured, for people and for machines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from d2serve.cli.app import app
from d2serve.cli.models import benching
from d2serve.cli.models.bench_exports import missing_ways
from d2serve.cli.models.bench_tables import print_measured
from d2serve.server.measuring.advice import advice_of
from d2serve.server.measuring.images import Images
from d2serve.server.measuring.machine import this_machine
from d2serve.server.measuring.plan import Setup
from d2serve.server.measuring.session import Measured
from tests.handlers.samples import spec_with
from tests.server.measuring.programs import packed
from tests.server.measuring.test_advice import FAST, SLOW, cell


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
    assert report["advice"]["archive"] == "small.mar"
    for row in report["rows"]:
        assert row["images_per_second"]["value"] > 1
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


def test_the_tables_say_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [cell(SLOW, Setup(1, 2), [1.5]), cell(FAST, Setup(2, 1), [1200, 1300, 1250])]
    images = Images((), (), "one drawn picture, 1066 x 800", drawn=True)
    measured = Measured(
        cells, rounds=3, seconds=61, interrupted=True, notes=["bad.jpg is left out"]
    )
    print_measured(this_machine(), images, measured, advice_of(cells, 2))
    printed, noted = capsys.readouterr()
    for words in (
        "one drawn picture, 1066 x 800, 3 rounds in 61 s",
        "slow.mar: Mask R-CNN FPN, TorchScript fp32",
        "one round",
        "1,200 to 1,300",
        "7 things are found in it: what comes after the model, 11 of 231 ms here, grows with them. "
        "With 100 it would be about 157 ms.",
        "What to set to serve fast.mar",
        "- fast.mar answers 1,250 images/s at its best",
    ):
        assert words in printed, words
    assert "bad.jpg is left out" in noted
    assert "It was interrupted: this is what was measured so far." in noted


def test_what_is_missing_is_what_is_made_to_be_fast() -> None:
    there = [spec_with(runtime="openvino", precision="int8"), spec_with(runtime="torchscript")]
    assert missing_ways(there) == [
        ("onnxruntime", "fp32"),
        ("openvino", "fp32"),
        ("openvino", "bf16"),
    ]
