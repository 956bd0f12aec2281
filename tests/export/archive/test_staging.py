"""An archive is complete or not there, whatever interrupts the export."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from d2serve.export.archive.installing import install
from d2serve.export.archive.staging import limits_of, settings_for
from d2serve.export.reading.family import Family
from tests.conftest import ROOT


def test_install_replaces_in_one_step_and_leaves_nothing_else(tmp_path: Path) -> None:
    made = tmp_path / "made.mar"
    made.write_bytes(b"new")
    store = tmp_path / "store"
    store.mkdir()
    (store / "model.mar").write_bytes(b"old")
    assert install(made, store, "model").read_bytes() == b"new"
    assert [file.name for file in store.iterdir()] == ["model.mar"]


# At each step, in turn: tests/faults/test_interrupted_export.py.
@pytest.mark.export
@pytest.mark.parametrize(
    "seconds", [4.0, *(pytest.param(each, marks=pytest.mark.long) for each in (2.0, 6.0, 8.0))]
)
def test_an_export_killed_at_any_time_leaves_the_older_archive(
    seconds: float, tiny_config: Path, tmp_path: Path
) -> None:
    older = tmp_path / "tiny.mar"
    older.write_bytes(b"an older archive")
    code = "from d2serve.cli.app import main; main()"
    arguments = ["--config-file", str(tiny_config), "--export-method", "tracing"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "export", *arguments, "--output", str(tmp_path)],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    archives = [file for file in tmp_path.iterdir() if file.suffix == ".mar"]
    assert archives == [older]
    if process.returncode == 0:  # it was done before
        assert zipfile.ZipFile(older).testzip() is None
    else:
        assert older.read_bytes() == b"an older archive"


def test_only_a_scripted_model_for_a_gpu_is_batched() -> None:
    assert settings_for(True, "cuda")["batchSize"] == 8
    assert settings_for(True, "cuda:1")["maxBatchDelay"] == 20
    for dynamic_batch, device in ((True, "cpu"), (False, "cuda"), (False, "cpu")):
        assert settings_for(dynamic_batch, device)["batchSize"] == 1


@pytest.mark.parametrize(
    ("limit", "proposals", "allowed"),
    [
        (100, 1000, 1000),
        (2000, 1000, 2000),
        (-1, 1000, 80_000),  # no limit: a proposal can be an instance of each class
        (-1, None, 1000),
        (None, None, 1000),
    ],
)
def test_an_archive_answers_all_that_the_model_finds(
    limit: int | None, proposals: int | None, allowed: int
) -> None:
    family = Family("R-CNN", (), 80, detections_per_image=limit, most_proposals=proposals)
    assert limits_of(family).max_detections == allowed
