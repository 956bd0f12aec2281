"""What an archive's model-config.yaml says of answering holds at every door that opens archives."""

from __future__ import annotations

import io
import json
import zipfile
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from d2serve.cli.app import app
from d2serve.client.errors import ArchiveRefused, ImageTooLarge
from d2serve.client.own_handling import own_handling
from d2serve.client.predict.in_process import InProcessClient
from d2serve.handlers.errors import LoadError
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.server.batch.job import Job, Share
from d2serve.server.batch.processes import Pool
from d2serve.server.images.sources import find_images
from d2serve.server.packaging.writing import package
from d2serve.server.ray_serve.settings import Settings, WrongSettings, body_bytes, read_models
from d2serve.server.triton.repository import files_of
from tests.cli.small_archives import small_archive, small_spec
from tests.client.answering_archives import answering_archive

SETTINGS = "maxWorkers: 4\nbatching: never\nconvolution: direct\nlimits:\n  max_image_pixels: 100\n"
OWN = {"batching": "never", "limits": {"max_image_pixels": 100}, "convolution": "direct"}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return answering_archive(tmp_path / "shapes.mar", settings=SETTINGS)


def picture(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (9, 9, 9)).save(file, "PNG")
    return file.getvalue()


def test_it_is_read_of_files_and_folders(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "folder")
    assert own_handling(archive) == own_handling(tmp_path / "folder") == OWN
    assert own_handling(small_archive(tmp_path / "plain.mar")) == {}
    (tmp_path / "bare").mkdir()
    assert own_handling(tmp_path / "bare") == {}


def test_what_is_no_yaml_is_refused(tmp_path: Path) -> None:
    broken = answering_archive(tmp_path / "broken.mar", settings="limits: [")
    with pytest.raises(ArchiveRefused, match=r"model-config\.yaml of .* cannot be read"):
        own_handling(broken)


def test_an_archive_that_answers_here(archive: Path) -> None:
    with InProcessClient(archive) as client:
        assert client.predict(picture(10)).instances
        with pytest.raises(ImageTooLarge, match="100"):
            client.predict(picture(11))
    with InProcessClient(archive, limits={"max_image_pixels": 200}) as client:
        assert client.predict(picture(11)).instances


def test_d2serve_predict(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(picture(11))
    words = ["predict", str(archive), str(tmp_path / "photo.png"), "--json"]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert "100" in result.stderr


def test_d2serve_batch(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for side in (10, 11):
        (tmp_path / "photos" / f"{side}.png").write_bytes(picture(side))
    pool = Pool(1, Share(), Job.of(archive, {}))
    try:
        (table,) = pool.answered(deque([list(find_images(str(tmp_path / "photos")))]))
    finally:
        pool.close()
    codes = {Path(row["path"]).name: row["error_code"] for row in table.to_pylist()}
    assert codes == {"10.png": None, "11.png": "image_too_large"}


def test_ray_serve(archive: Path, tmp_path: Path) -> None:
    (model,) = read_models([str(archive)], Settings())
    assert (model.handling, model.batching) == (OWN, "never")
    (told,) = read_models([str(archive)], Settings(batching="auto"))
    assert told.batching == "auto"
    settings = "batching: always\nlimits: {max_image_bytes: 1000}\n"
    scripted = answering_archive(tmp_path / "s.mar", settings=settings, dynamic_batch=True)
    models = read_models([str(scripted)], Settings())
    assert body_bytes(models) == 2000
    assert models[0].batching == "always"
    traced = answering_archive(tmp_path / "t.mar", settings=settings)
    with pytest.raises(WrongSettings, match="one image at a time"):
        read_models([str(traced)], Settings())


@pytest.mark.parametrize(
    ("batching", "together"), [(None, True), ("auto", True), ("always", True), ("never", False)]
)
def test_triton(batching: str | None, together: bool) -> None:
    spec = replace(small_spec(), dynamic_batch=True)
    text = triton_configuration(spec, {} if batching is None else {"batching": batching})
    assert ("dynamic_batching" in text) is together
    assert ("parameters {" in text) is (batching is not None)


def test_what_triton_is_told_is_what_the_archive_says(archive: Path, tmp_path: Path) -> None:
    folder, _ = package(archive, "triton", tmp_path)
    text = (folder / "models" / "shapes" / "config.pbtxt").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("parameters"))
    value = line.split("string_value: ")[1].removesuffix(" } }")
    assert json.loads(json.loads(value)) == OWN


def test_cvats_function(
    archive: Path, tmp_path: Path, opened: Callable[[Path], dict[str, Any]]
) -> None:
    folder, _ = package(archive, "cvat-nuclio", tmp_path)
    assert opened(folder / "main.py") == {"version": "2.0", **OWN}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("limits: {max_pixels: 1}", "max_pixels"),
        ("convolution: winogard", "'winogard', expected one of auto, winograd, direct"),
        ("convolution: winograd", "runs its own convolutions only"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_packaged(
    settings: str, message: str, tmp_path: Path
) -> None:
    wrong = answering_archive(tmp_path / "wrong.mar", settings=settings, runtime="tensorrt")
    with pytest.raises(ArchiveRefused, match=message):
        package(wrong, "triton", tmp_path)
    with pytest.raises(LoadError, match=message):
        read_models([str(wrong)], Settings())
    with pytest.raises(ArchiveRefused, match=message):
        Job.of(wrong, {})


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], dict[str, Any]]:
    """Runs a function's start; gives what its service was opened with."""

    def run(file: Path) -> dict[str, Any]:
        told: dict[str, Any] = {}
        monkeypatch.setattr(
            "d2serve.handlers.service.Service.open", lambda _archive, **more: told.update(more)
        )
        names: dict[str, Any] = {"__file__": str(file), "__name__": "main"}
        exec(compile(file.read_text(encoding="utf-8"), file, "exec"), names)
        names["init_context"](type("Context", (), {"user_data": type("Data", (), {})()})())
        return told

    return run


def triton_configuration(spec: ModelSpec, handling: Any) -> str:
    return files_of(spec, "shapes", "2.1", handling)["models/shapes/config.pbtxt"]
