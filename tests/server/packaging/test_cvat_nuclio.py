"""``d2serve package --for cvat-nuclio``: what CVAT reads of the function."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from typer.testing import CliRunner

from d2serve.cli.app import app
from tests.client.answering_archives import answering_archive


def _packaged(archive: Path, output: Path) -> tuple[int, str]:
    words = ["package", str(archive), "--for", "cvat-nuclio", "--output", str(output)]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_the_function_names_the_labels(tmp_path: Path) -> None:
    archive = answering_archive(tmp_path / "My_shapes.mar", "My_shapes")
    status, output = _packaged(archive, tmp_path)
    assert status == 0, output
    assert "nuctl deploy" in output
    folder = tmp_path / "My_shapes-cvat-nuclio"
    files = {"function.yaml", "main.py", "requirements.txt", "My_shapes.mar"}
    assert {file.name for file in folder.iterdir()} == files
    function = yaml.safe_load((folder / "function.yaml").read_text(encoding="utf-8"))
    assert function["metadata"]["name"] == "my-shapes"
    # As cvat/apps/lambda_manager reads it.
    annotations = function["metadata"]["annotations"]
    assert annotations["type"] == "detector"
    assert json.loads(annotations["spec"]) == [
        {"id": 0, "name": "circle", "type": "mask"},
        {"id": 1, "name": "square", "type": "mask"},
    ]
    assert "onnxruntime" in (folder / "requirements.txt").read_text(encoding="utf-8")


def test_an_archive_without_names_is_refused(tmp_path: Path) -> None:
    archive = answering_archive(tmp_path / "shapes.mar", class_names=None)
    status, output = _packaged(archive, tmp_path)
    assert status == 1
    assert "--class-names" in output
    assert not (tmp_path / "shapes-cvat-nuclio").exists()
