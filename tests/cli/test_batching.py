"""``d2serve batch``: what it prints, its exit status, and that it says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from d2serve.cli.app import app
from tests.client.answering_archives import answering_archive
from tests.server.batch.archives import BROKEN, images_of


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["batch", *map(str, words)], env={"COLUMNS": "200"})


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return answering_archive(tmp_path / "shapes.mar")


def test_answers_counts_and_coco_results(archive: Path, tmp_path: Path) -> None:
    photos = images_of(tmp_path / "photos", 6, {2: BROKEN})
    images = [{"id": 70 + n, "file_name": f"{n:04d}.png"} for n in range(6)]
    categories = [{"id": 4, "name": "other"}, {"id": 9, "name": "circle"}]
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps({"images": images, "categories": categories}))
    coco = ("--coco-results", tmp_path / "coco.json", "--coco-json", annotations)
    result = run(archive, photos, "--output", tmp_path / "r", "--workers", "1", *coco)
    assert result.exit_code == 0, result.output
    assert "6 images: 5 answered, 1 failed." in result.stdout
    assert "unsupported_image_format: 1" in result.stdout
    assert pq.read_table(tmp_path / "r").num_rows == 6
    entries = json.loads((tmp_path / "coco.json").read_text())
    assert sorted((each["image_id"], each["category_id"]) for each in entries) == [
        (70, 9),
        (71, 9),
        (73, 9),
        (74, 9),
        (75, 9),
    ]


def test_no_answer_at_all_is_a_failure(archive: Path, tmp_path: Path) -> None:
    photos = images_of(tmp_path / "photos", 2, {0: BROKEN, 1: b""})
    result = run(archive, photos, "--output", tmp_path / "r", "--workers", "1")
    assert result.exit_code == 1
    assert "2 images: 0 answered, 2 failed." in result.stdout
    assert "No image was answered" in result.stderr


def test_a_data_set_without_the_image_is_refused_before_any_work(
    archive: Path, tmp_path: Path
) -> None:
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps({"images": [], "categories": []}))
    words = (archive, images_of(tmp_path / "photos", 2), "--output", tmp_path / "r")
    result = run(*words, "--coco-results", tmp_path / "c.json", "--coco-json", annotations)
    assert result.exit_code == 1
    assert "has no image" in result.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        (["--coco-results", "c.json"], 2, "--coco-json together, or neither"),
        (["--score-thresh", "7"], 1, "score_thresh"),
        (["--cpus-per-worker", "4000"], 1, "--cpus-per-worker"),
        (["--ray-address", "auto"], 1, "pip install 'd2serve[ray]'"),
    ],
)
def test_what_is_wrong_is_said(
    archive: Path, tmp_path: Path, more: list[str], status: int, said: str
) -> None:
    result = run(archive, images_of(tmp_path / "p", 1), "--output", tmp_path / "r", *more)
    assert result.exit_code == status
    assert said in " ".join(result.stderr.split())
    assert not (tmp_path / "r").exists()


def test_no_images(archive: Path, tmp_path: Path) -> None:
    result = run(archive, tmp_path / "nowhere", "--output", tmp_path / "r")
    assert result.exit_code == 1
    assert "there is no such file or folder" in result.stderr
