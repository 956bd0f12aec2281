"""Bad archives are refused at load with the reason, and no other model suffers from it."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from d2serve.client.archive_checks import check_archive
from d2serve.client.errors import ArchiveRefused
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import Exporter
from tests.faults.bad_archives import BAD
from tests.faults.conftest import Operator


@pytest.fixture(scope="session")
def good(exported: Exporter) -> Path:
    return exported("faster_rcnn_fpn", "tracing")


@pytest.fixture(scope="session")
def store(good: Path, canned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with canned.mar, good.mar and each bad one under the name of what is wrong."""
    folder = tmp_path_factory.mktemp("bad") / "store"
    folder.mkdir()
    shutil.copy(canned, folder / "canned.mar")
    shutil.copy(good, folder / "good.mar")
    for name, (make, _) in BAD.items():
        make(good, folder / f"{name}.mar")
    return folder


def test_a_good_one_passes_and_says_how_large_it_is(good: Path, canned: Path) -> None:
    with zipfile.ZipFile(good) as opened:
        assert check_archive(good) == sum(entry.file_size for entry in opened.infolist())
    assert check_archive(canned) > 0, "of another maker"


@pytest.mark.parametrize("name", BAD)
def test_serve_refuses_before_torchserve_starts(store: Path, operator: Operator, name: str) -> None:
    process = operator.start(*operator.serve(str(store / "canned.mar"), str(store / f"{name}.mar")))
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (1, "")
    told = errors.splitlines()[-1]
    assert told.startswith("Not served. ")
    assert f"{name}.mar" in told
    for words in BAD[name][1]:
        assert words in told
    assert "starting TorchServe" not in errors
    assert operator.processes() == []
    assert list(operator.temporary.iterdir()) == []


def test_other_traps(good: Path, tmp_path: Path) -> None:
    link, twice = tmp_path / "link.mar", tmp_path / "twice.mar"
    for bad in (link, twice):
        shutil.copy(good, bad)
    with zipfile.ZipFile(link, "a") as archive:
        entry = zipfile.ZipInfo("passwords")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model_spec.json", "{}")
    with pytest.raises(ArchiveRefused, match="symbolic links"):
        check_archive(link)
    with pytest.raises(ArchiveRefused, match="several entries of one name"):
        check_archive(twice)


@pytest.fixture(scope="module")
def running(store: Path) -> Iterator[TorchServeProcess]:
    with TorchServeProcess({"canned": "canned.mar"}, model_store=store) as server:
        yield server


@pytest.mark.server
@pytest.mark.parametrize("name", BAD)
def test_a_registration_is_refused_and_the_others_answer(
    running: TorchServeProcess, name: str
) -> None:
    """By our client with the reason; by TorchServe itself, asked as by curl, with an error."""
    for words in BAD[name][1]:
        with pytest.raises(ArchiveRefused) as caught:
            running.management.register(f"{name}.mar", model_name=name)
        assert words in str(caught.value)
    worker = running.management.describe("canned")[0].workers[0].pid
    answer = httpx.post(
        f"{running.management_address}/models",
        params={**AT_ONCE, "url": f"{name}.mar", "model_name": name},
        headers={"authorization": f"Bearer {running.management_token}"},
        timeout=120,
    )
    assert answer.status_code >= 400, answer.text
    log = (running.log_directory / "model_log.log").read_text()
    for words in SAID_BY_TORCHSERVE[name]:
        assert words in f"{answer.text}\n{log}"
    assert list(running.directory.rglob("outside.py")) == [], "nothing is unpacked outside"
    assert not (running.directory.parent / "outside.py").exists()
    assert running.http.predict("canned", b"1").model == "canned"
    assert running.management.describe("canned")[0].workers[0].pid == worker
    assert list(running.management.list_models()) == ["canned"]
    assert httpx.get(f"{running.metrics_address}/metrics").status_code == 200


AT_ONCE = {"initial_workers": "1", "synchronous": "true"}
SAID_BY_TORCHSERVE = {
    "truncated": ("Failed to save model: truncated.mar",),
    "bit_rot": ("Failed to save model: bit_rot.mar",),
    "zip_slip": ("Failed to save model: zip_slip.mar",),
    "other_program": ("the archive was changed or damaged",),
    "newer_schema": ("schema_version 99",),
    "other_torch": ("was exported with torch 1.13.1+cpu", "export again"),
}
"""In its answer, which has no reason for what it cannot unpack; of what a worker refuses, the
reason is in model_log.log."""
