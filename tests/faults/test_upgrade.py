"""`d2serve upgrade` while requests come, and its way back from what fails."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from d2serve.handlers.torchserve import torch_stand_in
from d2serve.server.torchserve.process import TorchServeProcess
from tests.client.conftest import CANNED_HANDLER, DYING_HANDLER, make_archive
from tests.conftest import ROOT, Exporter
from tests.faults.conftest import MAIN, Operator, end, wait_for, wait_until_serving
from tests.faults.loading import Load

_log = logging.getLogger(__name__)  # figures: pytest -o log_cli=true -o log_cli_level=info

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

NAME = "shapes"
SAMPLE = ROOT / "examples" / "shapes" / "sample.jpg"
MORE_THAN_NORMAL = 2.0
"""Seconds."""
_TAKES_A_WHILE = """
        import time
        time.sleep(6 if sent == b"slow" else 0.05)
"""
HANDLER = CANNED_HANDLER.replace(
    '        if sent.startswith(b"bad")', _TAKES_A_WHILE + '        if sent.startswith(b"bad")'
)
REFUSING = HANDLER.replace(
    'sent.startswith(b"bad")', "True"
)  # every request is answered with an error


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of archives: 1.0 and 2.0, 3.0 whose workers die, 4.0 that answers with errors."""
    folder = tmp_path_factory.mktemp("new") / "new"
    folder.mkdir()
    for number, handler in enumerate((HANDLER, HANDLER, DYING_HANDLER, REFUSING), 1):
        made = make_archive(folder, f"v{number}", handler, f"{number}.0")
        with zipfile.ZipFile(made, "a") as archive:  # its workers are sooner there without torch
            archive.write(torch_stand_in.__file__, "torch.py")
    return folder


@pytest.fixture(scope="module")
def running(new: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServeProcess]:
    store = tmp_path_factory.mktemp("store")
    (store / "v1.mar").write_bytes((new / "v1.mar").read_bytes())
    with TorchServeProcess({NAME: "v1.mar"}, model_store=store) as server:
        yield server


@pytest.fixture
def server(running: TorchServeProcess) -> Iterator[TorchServeProcess]:
    """With version 1.0 alone, again after each test."""
    yield running
    management = running.management
    versions = {each.version for each in management.describe(NAME, "all")}
    if "1.0" not in versions:
        management.register("v1.mar", model_name=NAME)
    management.set_default(NAME, "1.0")
    for version in versions - {"1.0"}:
        management.unregister(NAME, version)


def store_of(server: TorchServeProcess) -> Path:
    return (server.directory / "models").resolve()


def start_upgrade(server: TorchServeProcess, *arguments: object) -> subprocess.Popen[str]:
    paths = [os.path.abspath(each) for each in sys.path if each]  # noqa: PTH100 (no resolving)
    return subprocess.Popen(
        [
            *(sys.executable, "-W", "ignore", "-c", MAIN, "upgrade", *map(str, arguments)),
            f"--key-file={server.key_file}",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def upgrade(server: TorchServeProcess, *arguments: object) -> subprocess.CompletedProcess[str]:
    process = start_upgrade(server, *arguments)
    try:
        output, errors = process.communicate(timeout=400)
    finally:
        end(process)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def versions_of(server: TorchServeProcess) -> list[str]:
    """Every registered version, the default one first."""
    (default,) = server.management.describe(NAME)
    every = [each.version for each in server.management.describe(NAME, "all")]
    return sorted(every, key=lambda each: (each != default.version, each))


def upgraded_under_load(
    server: TorchServeProcess, image: bytes, archive: Path, *arguments: object, pause: float
) -> None:
    """Upgrade to 2.0 with eight clients; nothing fails, and nothing waits for long."""
    with Load(server, NAME, image, pause=pause) as load:
        time.sleep(5)
        normal, began = load.slowest(), time.monotonic()
        done = upgrade(server, NAME, archive, *arguments)
        took = time.monotonic() - began
        time.sleep(2)
        ended = time.monotonic()
        time.sleep(2)
    assert done.returncode == 0, done.stderr
    assert "shapes: 2.0 answers, 1.0 is retired" in done.stdout
    assert not load.failures()
    slowest, after = load.slowest(began), load.slowest(ended)
    _log.info(
        "%d requests, upgrade %.1f s; slowest before %.2f s, during %.2f s, after %.2f s",
        *(len(load.answers()), took, normal, slowest, after),
    )
    assert slowest < normal + MORE_THAN_NORMAL
    assert {each.version for each in load.answers(ended)} == {"2.0"}
    assert versions_of(server) == ["2.0"]


def test_under_load_nothing_fails_and_nothing_waits(server: TorchServeProcess, new: Path) -> None:
    before = server.management.describe(NAME)[0]
    upgraded_under_load(server, b"1", new / "v2.mar", pause=0.1)
    (after,) = server.management.describe(NAME)
    assert (after.min_workers, after.max_workers) == (before.min_workers, before.max_workers)
    assert (store_of(server) / "v2.mar").is_file()


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        ("v3.mar", "No module named 'a_package_that_is_not_there'"),
        ("v4.mar", "does not answer a made-up image"),
    ],
)
def test_a_version_that_fails_is_rolled_back(
    archive: str, told: str, server: TorchServeProcess, new: Path
) -> None:
    with Load(server, NAME, b"1", pause=0.1) as load:
        done = upgrade(server, NAME, new / archive)
    assert done.returncode == 1
    assert "Not upgraded." in done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert versions_of(server) == ["1.0"]
    assert not load.failures()
    assert {each.version for each in load.answers()} == {"1.0"}
    assert not (store_of(server) / archive).exists(), "what was copied there is gone again"


@pytest.mark.long
def test_ctrl_c_rolls_back(server: TorchServeProcess, new: Path) -> None:
    process = start_upgrade(server, NAME, new / "v3.mar")
    try:
        wait_for(lambda: len(versions_of(server)) == 2, 60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=100)
    finally:
        end(process)
    assert process.returncode == 1
    assert "stopped, and what was done was undone" in errors
    assert versions_of(server) == ["1.0"]


@pytest.mark.long
def test_an_old_version_that_is_kept_and_one_that_stays_busy(
    server: TorchServeProcess, new: Path
) -> None:
    done = upgrade(server, NAME, new / "v2.mar", "--keep-old", f"--image={SAMPLE}")
    assert (done.returncode, versions_of(server)) == (0, ["2.0", "1.0"]), done.stderr
    assert "2.0 answers, 1.0 stays registered. It found 1 in the image." in done.stdout
    again = upgrade(server, NAME, new / "v2.mar")
    assert again.returncode == 1
    assert "Version 2.0 of shapes answers already" in again.stderr
    server.management.set_default(NAME, "1.0")
    server.management.unregister(NAME, "2.0")

    over = threading.Event()

    def ask_the_old_one() -> None:
        while not over.is_set():
            server.http.predict(NAME, b"slow", version="1.0")

    asking = threading.Thread(target=ask_the_old_one)
    asking.start()
    try:
        done = upgrade(server, NAME, new / "v2.mar", "--drain-seconds=1")
    finally:
        over.set()
        asking.join(timeout=60)
    assert done.returncode == 1
    assert "1.0 is still busy after 1 s, so it stays registered" in done.stderr
    assert versions_of(server) == ["2.0", "1.0"]


def test_what_cannot_be_begun_is_one_line(
    server: TorchServeProcess, new: Path, tmp_path: Path
) -> None:
    (tmp_path / "half.mar").write_bytes((new / "v2.mar").read_bytes()[:200])
    for arguments, told in (
        (("other", new / "v2.mar"), "No model other is served"),
        ((NAME, new / "v1.mar"), "expected an archive of another version than 1.0"),
        ((NAME, tmp_path / "half.mar"), "damaged"),
        ((NAME, "nothing.mar"), "There is no archive nothing.mar (looked for"),
        ((NAME, new / "v2.mar", "--image=none.jpg"), "--image none.jpg cannot be read"),
    ):
        done = upgrade(server, *arguments)
        assert done.returncode == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert versions_of(server) == ["1.0"]


def of_the_page(begin: str) -> list[str]:
    """The words of a command of docs/running.md, but for `d2serve`."""
    lines = (ROOT / "docs" / "running.md").read_text().splitlines()
    (line,) = (each for each in lines if each.startswith(f"d2serve {begin}"))
    return line.split()[1:]


@pytest.mark.long
def test_what_was_upgraded_is_served_after_a_kill(operator: Operator, new: Path) -> None:
    """By the commands of the page, with a store of links, which ends with its server."""
    for file, source in (
        ("shapes.mar", new / "v1.mar"),
        ("shapes-2.0.mar", new / "v2.mar"),
        ("photo.jpg", SAMPLE),
    ):
        (operator.folder / file).write_bytes(source.read_bytes())
    _, archive, *options = of_the_page("serve")
    command = operator.serve(f"{NAME}={archive}", *options)
    process = operator.start(*command)
    wait_until_serving(process)
    upgrading = operator.start(*of_the_page("upgrade"))
    output, errors = upgrading.communicate(timeout=300)
    assert upgrading.returncode == 0, (output, errors)
    assert "Upgraded shapes: 2.0 answers, 1.0 is retired." in output
    state = operator.folder / "state.json"
    wait_for(
        lambda: [each["version"] for each in json.loads(state.read_text())["models"]] == ["2.0"]
    )
    process.kill()
    process.communicate(timeout=60)
    again = operator.start(*command)
    assert "Serving shapes 2.0" in wait_until_serving(again)


@pytest.mark.long
def test_a_real_model_under_load(exported: Exporter, tmp_path: Path) -> None:
    first = exported("faster_rcnn_fpn", "onnxruntime")
    (tmp_path / "shapes.mar").write_bytes(first.read_bytes())
    second = tmp_path / "second.mar"
    with zipfile.ZipFile(first) as source, zipfile.ZipFile(second, "w") as target:
        for item in source.infolist():
            content = source.read(item)
            if item.filename == "MAR-INF/MANIFEST.json":
                manifest = json.loads(content)
                manifest["model"]["modelVersion"] = "2.0"
                content = json.dumps(manifest).encode()
            target.writestr(item, content)
    with TorchServeProcess({NAME: tmp_path / "shapes.mar"}) as server:
        server.http.predict(NAME, SAMPLE)
        upgraded_under_load(server, SAMPLE.read_bytes(), second, f"--image={SAMPLE}", pause=1)
