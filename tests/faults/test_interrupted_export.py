"""An export that is killed at any step, and two of one name at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from d2serve.client.archive_checks import check_archive
from d2serve.export.archive.installing import install
from tests.conftest import ROOT
from tests.export.conftest import write_tiny_config

OLDER = b"an older archive"


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_config(tmp_path_factory.mktemp("tiny"))


# All in one process that imports torch once. As each step begins, a fork of the export is killed,
# which leaves what is on the disk at that moment, and the export goes on to the next step. The last
# two steps are inside of one, so there the export itself is killed, and begun anew.
SCRIPT = """
import os, shutil, signal, sys
from pathlib import Path
from types import SimpleNamespace
from d2serve.client import whole_files as archive
from d2serve.export.reading.config import ConfigSource
from d2serve.export.pipeline import export
from d2serve.export.request import ExportRequest, Progress

config, store, *steps = sys.argv[1:]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def copy_half_and_die(source, target, _size):
    target.write(source.read(100_000))
    target.flush()
    die()

def killed(step, run):
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    signalled = os.WIFSIGNALED(status)
    print(step, signalled, Path(store, "tiny.mar").read_bytes()[:16], sep="|", flush=True)

def run(kill_at_steps):
    def begin(name, _parts):
        if kill_at_steps and name in steps:
            killed(name, die)
    request = ExportRequest(ConfigSource(config), "tracing", "tiny", output=Path(store))
    export(request, Progress(begin, lambda: None))

def copying():
    archive.shutil = SimpleNamespace(**{**vars(shutil), "copyfileobj": copy_half_and_die})
    run(kill_at_steps=True)

def renaming():
    archive.os = SimpleNamespace(**{**vars(os), "fsync": die})
    run(kill_at_steps=False)

killed("copying into the store", copying)
killed("renaming", renaming)
"""
STEPS = (
    "Reading the config",
    "Loading the weights",
    "Making the program by tracing",
    "Choosing images",
    "Comparing with detectron2",
    "Packaging",
    "copying into the store",
    "renaming",
)


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.export
def test_killed_as_each_step_begins_it_leaves_the_older_archive(
    tiny_config: Path, tmp_path: Path
) -> None:
    older = tmp_path / "tiny.mar"
    older.write_bytes(OLDER)
    process = python(SCRIPT, str(tiny_config), str(tmp_path), *STEPS)
    output, errors = process.communicate(timeout=600)
    assert output.splitlines() == [f"{step}|True|{OLDER!r}" for step in STEPS], errors
    assert list(tmp_path.glob("*.mar")) == [older]
    partial = [path for path in tmp_path.iterdir() if path != older]
    assert len(partial) == 2, "of the last two steps"
    assert all(path.name.startswith(".") for path in partial), "no server takes them for models"


def test_the_next_export_removes_what_an_interrupted_one_left(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"new")
    store = tmp_path / "store"
    store.mkdir()
    left, in_work, others = (
        store / name for name in (".m.left.partial", ".m.now.partial", ".m2.x.partial")
    )
    for path in (left, in_work, others):
        path.write_bytes(b"half")
    yesterday = time.time() - 86_400
    for path in (left, others):
        os.utime(path, (yesterday, yesterday))
    install(made, store, "m")
    assert sorted(path.name for path in store.iterdir()) == [in_work.name, others.name, "m.mar"]


@pytest.mark.export
@pytest.mark.long  # the race itself is in the test below
def test_two_at_once_both_finish_and_one_wins(tiny_config: Path, tmp_path: Path) -> None:
    code = "from d2serve.cli.app import main; main()"
    both = [
        python(
            code,
            *("export", "--config-file", str(tiny_config), "--export-method", "tracing"),
            *("--name", "tiny", "--version", "1.0", "--output", str(tmp_path)),
        )
        for _ in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    (archive,) = tmp_path.iterdir()
    assert archive.name == "tiny.mar"
    assert check_archive(archive) > 0
    with zipfile.ZipFile(archive) as opened:
        assert json.loads(opened.read("MAR-INF/MANIFEST.json"))["model"]["modelVersion"] == "1.0"


def test_installs_that_race_leave_one_whole_archive(tmp_path: Path) -> None:
    """Many times, since a whole export gives the race only one chance."""
    contents = [bytes([number]) * 300_000 for number in range(8)]
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    store = tmp_path / "store"
    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(lambda n: install(tmp_path / str(n), store, "m"), range(8)):
                assert (store / "m.mar").read_bytes() in contents
    assert [path.name for path in store.iterdir()] == ["m.mar"]
