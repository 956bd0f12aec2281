"""``d2serve extract``: a program leaves its archive whole, or not at all, and harms nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from d2serve.cli.app import app
from d2serve.handlers.spec.model_spec import SPEC_FILE
from d2serve.handlers.spec.runtimes import RUNTIMES
from tests.cli.damaged_archives import DAMAGED
from tests.cli.small_archives import PROGRAM, small_archive, small_spec

SAVED_MODEL = {"saved_model.pb": b"graph", "variables/variables.index": b"index"}


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["extract", *map(str, words)], env={"COLUMNS": "200"})


def refused(result: Result) -> str:
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), "no other exception came out"
    (line,) = result.stderr.splitlines()
    return str(line)


def packed(
    file: Path, files: dict[str, bytes], runtime: str, version: str = "1.0", name: str = "shapes"
) -> Path:
    spec = dataclasses.replace(
        small_spec(),
        runtime=runtime,
        program=next(iter(files)),
        sha256={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )
    manifest = {"model": {"modelName": name, "modelVersion": version, "handler": "h.py"}}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr(SPEC_FILE, spec.to_json())
        archive.writestr("model.svg", "<svg/>")
        archive.writestr("torch.py", "")
        archive.writestr("d2serve/handlers/service.py", "")
        for each, content in files.items():
            archive.writestr(each, content)
    return file


def files_in(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


@pytest.mark.parametrize(
    "runtime", [name for name, facts in RUNTIMES.items() if not facts.numbered]
)
def test_a_program_with_its_spec_and_picture(runtime: str, tmp_path: Path) -> None:
    files = {RUNTIMES[runtime].main_file: b"program", "more.bin": b"weights"}
    result = run(packed(tmp_path / "x.mar", files, runtime), "--output", tmp_path / "new" / "out")
    assert result.exit_code == 0, result.output
    assert f"Wrote {tmp_path / 'new' / 'out' / 'shapes'}\n" in result.stdout
    assert files_in(tmp_path / "new" / "out") == {
        f"shapes/{name}" for name in (*files, SPEC_FILE, "model.svg")
    }
    assert (tmp_path / "new/out/shapes/more.bin").read_bytes() == b"weights"
    assert [each.name for each in (tmp_path / "new" / "out").iterdir()] == ["shapes"]


@pytest.mark.parametrize(
    ("version", "number"), [("1.0", "1"), ("3", "3"), ("12.0", "12"), ("2.1", "1"), ("next", "1")]
)
def test_a_saved_model_as_tensorflow_serving_wants_it(
    version: str, number: str, tmp_path: Path
) -> None:
    archive = packed(tmp_path / "x.mar", SAVED_MODEL, "tensorflow", version)
    assert run(archive, "--output", tmp_path / "models").exit_code == 0
    assert files_in(tmp_path / "models") == {
        f"shapes/{number}/{name}" for name in (*SAVED_MODEL, SPEC_FILE, "model.svg")
    }


def test_another_version_beside_it_and_nothing_over_it(tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        archive = packed(tmp_path / f"{version}.mar", SAVED_MODEL, "tensorflow", version)
        assert run(archive, "--output", tmp_path / "models").exit_code == 0
    before = files_in(tmp_path / "models")
    assert {Path(name).parts[1] for name in before} == {"1", "2"}
    told = refused(run(archive, "--output", tmp_path / "models"))
    assert f"{tmp_path / 'models' / 'shapes' / '2'} is there already, and nothing is" in told
    assert files_in(tmp_path / "models") == before


def test_a_frozen_graph_is_for_no_server(tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.mar", {"frozen_graph.pb": b"graph"}, "tensorflow", "4")
    assert run(archive, "--output", tmp_path / "out").exit_code == 0
    assert "shapes/frozen_graph.pb" in files_in(tmp_path / "out")


def test_an_archive_that_was_unpacked_and_one_without_a_picture(tmp_path: Path) -> None:
    zipfile.ZipFile(small_archive(tmp_path / "x.mar")).extractall(tmp_path / "folder")
    for source in ("x.mar", "folder"):
        assert run(tmp_path / source, "--output", tmp_path / f"of_{source}").exit_code == 0
        assert files_in(tmp_path / f"of_{source}") == {"shapes/model.pt", f"shapes/{SPEC_FILE}"}
    assert (tmp_path / "of_folder" / "shapes" / "model.pt").read_bytes() == PROGRAM


@pytest.mark.parametrize("name", [name for name in DAMAGED if "verification" not in name])
def test_a_damaged_archive_leaves_nothing(name: str, tmp_path: Path) -> None:
    make, _ = DAMAGED[name]
    make(small_archive(tmp_path / "good.mar"), tmp_path / "bad.mar")
    refused(run(tmp_path / "bad.mar", "--output", tmp_path / "out"))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_weights_that_were_changed_leave_nothing(tmp_path: Path) -> None:
    archive = packed(tmp_path / "good.mar", SAVED_MODEL, "tensorflow")
    with zipfile.ZipFile(archive) as good, zipfile.ZipFile(tmp_path / "bad.mar", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, b"other" if name.endswith("index") else good.read(name))
    told = refused(run(tmp_path / "bad.mar", "--output", tmp_path / "out"))
    assert "variables/variables.index has sha256" in told
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["../outside", "/etc/d2serve", "..", ".", "a\\b", "a:b"])
def test_a_name_that_leads_elsewhere(name: str, tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.mar", SAVED_MODEL, "tensorflow", name=name)
    assert "expected a name that a folder can have" in refused(
        run(archive, "--output", tmp_path / "out")
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    archive = small_archive(tmp_path / "x.mar")
    told = refused(run(archive, "--output", archive / "inside"))
    assert "cannot be written" in told
    assert "name another one with --output" in told
