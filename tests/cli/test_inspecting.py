"""``d2serve inspect`` and ``list``: every file is described, or refused in a sentence."""

from __future__ import annotations

import dataclasses
import os
import re
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from d2serve.cli.app import app
from d2serve.cli.models.export_tables import print_other_versions
from tests.cli import small_archives
from tests.cli.damaged_archives import DAMAGED
from tests.cli.small_archives import small_archive


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"})


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    make, told = DAMAGED[name]
    make(small_archive(tmp_path / "good.mar"), tmp_path / "bad.mar")
    result = run("inspect", str(tmp_path / "bad.mar"))
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), "no other exception came out"
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert str(tmp_path / "bad.mar") in line
    assert told in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    small_archive(tmp_path / "x.mar").chmod(0)
    result = run("inspect", str(tmp_path / "x.mar"))
    assert result.exit_code == 1
    assert "cannot be read (Permission denied)" in result.stderr


def test_what_an_archive_was_made_of_and_where_its_names_come_from(tmp_path: Path) -> None:
    shown = run("inspect", str(small_archive(tmp_path / "x.mar"))).stdout
    for text in ("model_final.pth, sha256 dddd", "config.yaml, resolved, sha256 cccc"):
        assert text in shown
    assert "class names from the metadata of my_train" in shown


@pytest.mark.parametrize(
    ("limit", "said"), [(-1, "no limit of instances"), (100, "at most 100 instances")]
)
def test_how_many_instances_there_are_at_most(
    limit: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dataclasses.replace(small_archives.small_spec("x"), detections_per_image=limit)
    monkeypatch.setattr(small_archives, "small_spec", lambda _name: spec)
    assert said in run("inspect", str(small_archive(tmp_path / "x.mar"))).stdout


def test_a_path_that_leads_through_a_file(tmp_path: Path) -> None:
    inside = small_archive(tmp_path / "x.mar") / "model.mar"
    result = run("inspect", str(inside))
    assert result.exit_code == 1
    assert "cannot be opened: there is no such file" in result.stderr


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = small_archive(tmp_path / "good.mar").read_bytes()
    bad = tmp_path / "bad.mar"
    for length in range(0, len(content), len(content) // 97):
        bad.write_bytes(content[:length])
        result = run("inspect", str(bad))
        assert result.exit_code == 1, length
        assert isinstance(result.exception, SystemExit), length


@pytest.mark.parametrize("file", ["shapes.mar", "shapes.zip", "shapes"])
def test_an_archive_is_known_by_its_content(file: str, tmp_path: Path) -> None:
    result = run("inspect", str(small_archive(tmp_path / file, version="2.0")))
    assert result.exit_code == 0, result.output
    assert "shapes 2.0: Faster R-CNN FPN" in result.output
    assert "480x640" in result.output
    assert f"config.yaml, resolved, sha256 {'c' * 64}" in result.output
    assert f"model_final.pth, sha256 {'d' * 64}" in result.output


def test_a_narrow_terminal_shows_digests_to_their_end(tmp_path: Path) -> None:
    archive = small_archive(tmp_path / "shapes.mar")
    shown = CliRunner().invoke(app, ["inspect", str(archive)], env={"COLUMNS": "80"}).output
    assert "d" * 64 in re.sub(r"[\s│]+", "", shown)


def test_a_path_is_shown_as_it_is(tmp_path: Path) -> None:
    result = run("inspect", str(tmp_path / ":x:[red].mar"))
    assert ":x:[red].mar cannot be opened" in result.stderr


def test_an_unpacked_archive_is_described_whatever_its_folder_is_called(tmp_path: Path) -> None:
    with zipfile.ZipFile(small_archive(tmp_path / "x.zip")) as archive:
        archive.extractall(tmp_path / "folder.mar")
    result = run("inspect", str(tmp_path / "folder.mar"))
    assert result.exit_code == 0, result.output
    assert "shapes 1.0: Faster R-CNN FPN" in result.output


@pytest.mark.parametrize("command", ["verify", "evaluate"])
def test_what_compares_an_archive_refuses_a_file_that_is_none_before_any_work(
    command: str, tmp_path: Path
) -> None:
    (tmp_path / "text.mar").write_text("no archive")
    words = [command, str(tmp_path / "text.mar"), "--config-file", "none.yaml"]
    if command == "evaluate":
        words += ["--coco-json", "none.json", "--image-root", "none"]
    result = run(*words)
    assert result.exit_code == 1
    assert "text.mar is no archive" in result.stderr


def test_a_store_is_listed_by_name_and_version(tmp_path: Path) -> None:
    small_archive(tmp_path / "shapes.mar")
    small_archive(tmp_path / "shapes-10.0.mar", version="10.0")
    small_archive(tmp_path / "shapes-2.0.mar", version="2.0")
    small_archive(tmp_path / "other.mar", name="animals")
    result = run("list", "--model-store", str(tmp_path))
    assert result.exit_code == 0, result.output
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in result.output.splitlines()]
    listed = [row for row in rows if row and row[-1].endswith(".mar")]
    assert [(row[0], row[1], row[-1]) for row in listed] == [
        ("animals", "1.0", "other.mar"),
        ("shapes", "1.0", "shapes.mar"),
        ("shapes", "2.0", "shapes-2.0.mar"),
        ("shapes", "10.0", "shapes-10.0.mar"),
    ]
    assert {tuple(row[2:6]) for row in listed} == {
        ("Faster R-CNN FPN", "torchscript", "fp32", "0.0")
    }


def test_a_list_names_what_is_damaged_and_shows_the_rest(tmp_path: Path) -> None:
    small_archive(tmp_path / "shapes.mar")
    (tmp_path / "half.mar").write_bytes(b"PK\x03\x04")
    DAMAGED["of another maker"][0](tmp_path / "shapes.mar", tmp_path / "others.mar")
    DAMAGED["older schema"][0](tmp_path / "shapes.mar", tmp_path / "older.mar")
    result = run("list", "--model-store", str(tmp_path))
    assert result.exit_code == 1
    assert result.output.count("shapes") == 4, "three models, one of them in shapes.mar"
    assert "not made by d2serve" in result.output
    (line,) = result.stderr.splitlines()
    assert "half.mar is truncated or damaged" in line


@pytest.mark.parametrize("store", ["none", "empty"])
def test_a_store_without_archives(store: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("list", "--model-store", str(tmp_path / store))
    assert result.exit_code == (1 if store == "none" else 0)
    assert "d2serve export" in result.output


def test_inspect_tells_what_is_doubtful_about_a_program(tmp_path: Path) -> None:
    told = run("inspect", str(small_archive(tmp_path / "x.mar"))).stdout
    assert "exactly one instance." in told
    assert "Doubt: the trace made a constant of what depends on the image, at mine.py:3" in told


def test_an_export_says_which_versions_stay_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = small_archive(tmp_path / "shapes-2.0.mar", version="2.0")
    print_other_versions(two)
    assert capsys.readouterr().out == ""
    small_archive(tmp_path / "shapes.mar")
    small_archive(tmp_path / "animals.mar", name="animals")
    (tmp_path / "half.mar").write_bytes(b"PK")
    print_other_versions(two)
    said = capsys.readouterr().out
    assert "Beside it stays 1.0 in shapes.mar." in said
    assert "1.0 answers where a request names no version" in said
    assert "animals" not in said
