"""A detector opens a .mar or a folder, told apart by looking, and leaves nothing behind."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from d2serve.handlers import bundle
from d2serve.handlers.archive_checks import check_archive
from d2serve.handlers.bundle import FIRST_VERSION, MANIFEST, read_bundled_spec, read_version
from d2serve.handlers.detector import Detector
from d2serve.handlers.errors import ArchiveRefused, LoadError, SpecError
from d2serve.handlers.runtimes.onnxruntime import OnnxRuntime
from d2serve.handlers.spec.limits import DEFAULT_LIMITS
from d2serve.handlers.spec.model_spec import SPEC_FILE, read_spec
from tests.handlers.runtimes import test_onnxruntime
from tests.handlers.samples import spec_with

IMAGE = np.full((40, 60, 3), 51, np.uint8)


def packed(folder: Path, target: Path, **more: str) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
        for name, text in more.items():
            archive.writestr(name.replace("__", "/").replace("_py", ".py"), text)
    return target


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def mar(scripted_archive: Path, tmp_path: Path) -> Path:
    trap = "raise SystemExit('the stand-in was imported')"
    return packed(scripted_archive, tmp_path / "shapes.mar", torch_py=trap, numpy_py=trap)


def test_a_mar_answers_as_its_folder_does(mar: Path, scripted_archive: Path) -> None:
    with Detector.open(str(mar)) as opened:
        (from_file,) = opened([IMAGE])
    (from_folder,) = Detector.open(scripted_archive)([IMAGE])
    assert from_file.instances is not None
    assert from_folder.instances is not None
    assert from_file.instances.scores.tolist() == from_folder.instances.scores.tolist()


def test_names_say_nothing(mar: Path, scripted_archive: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(scripted_archive, tmp_path / "folder.mar"))
    file = Path(shutil.copy(mar, tmp_path / "archive"))
    for path in (folder, file):
        assert read_bundled_spec(path) == read_spec(scripted_archive)
        with Detector.open(path) as detector:
            assert len(detector([IMAGE])) == 1


def test_only_the_program_is_unpacked_and_goes_with_the_detector(
    mar: Path, temporary: Path
) -> None:
    before = list(sys.path)
    with Detector.open(mar) as detector:
        (folder,) = temporary.iterdir()
        assert sorted(file.name for file in folder.iterdir()) == ["model.pt", SPEC_FILE]
        assert folder.stat().st_mode & 0o077 == 0, "nobody else's"
        detector.set_threads(1)
        detector([IMAGE])
    assert list(temporary.iterdir()) == []
    forgotten = Detector.open(mar)
    assert len(list(temporary.iterdir())) == 1
    del forgotten
    gc.collect()
    assert list(temporary.iterdir()) == []
    assert sys.path == before


def test_a_program_of_several_folders(tmp_path: Path, temporary: Path) -> None:
    files = {"m.pb": b"program", "variables/of/all.data": b"weights"}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    with zipfile.ZipFile(tmp_path / "m.mar", "w") as archive:
        archive.writestr(SPEC_FILE, spec_with(program="m.pb", sha256=hashes).to_json())
        archive.writestr("variables/other", b"not the program's")
        for name, content in files.items():
            archive.writestr(name, content)
    unpacked = bundle.unpack_program(tmp_path / "m.mar")
    assert unpacked.parent == temporary
    found = {each.relative_to(unpacked).as_posix() for each in unpacked.rglob("*.*")}
    assert found == {SPEC_FILE, *files}
    assert (unpacked / "variables/of/all.data").read_bytes() == b"weights"
    check_archive(tmp_path / "m.mar")
    with zipfile.ZipFile(tmp_path / "bad.mar", "w") as archive:
        archive.writestr(SPEC_FILE, spec_with(program="m.pb", sha256=hashes).to_json())
        archive.writestr("m.pb", b"program")
        archive.writestr("variables/of/all.data", b"others")
    with pytest.raises(ArchiveRefused, match=r"variables/of/all.data does not match its sha256"):
        check_archive(tmp_path / "bad.mar")


def test_what_cannot_be_loaded_leaves_nothing(mar: Path, temporary: Path) -> None:
    with pytest.raises(LoadError, match="batching is 'sometimes'"):
        Detector.open(mar, batching="sometimes")
    assert list(temporary.iterdir()) == []


def test_it_is_checked_as_serve_does(scripted_archive: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(scripted_archive, tmp_path / "folder"))
    (folder / "model.pt").write_bytes(b"another")
    changed = packed(folder, tmp_path / "changed.mar")
    with pytest.raises(ArchiveRefused, match=r"model.pt does not match its sha256"):
        Detector.open(changed)
    (folder / "model.pt").unlink()
    with pytest.raises(ArchiveRefused, match="got no such file"):
        Detector.open(packed(folder, tmp_path / "lacking.mar"))
    with pytest.raises(ArchiveRefused, match=r"has no model.pt, which its model_spec.json names"):
        bundle.unpack_program(tmp_path / "lacking.mar")
    (folder / SPEC_FILE).unlink()
    (folder / "other.py").write_text("")
    with pytest.raises(SpecError, match="an archive of another maker"):
        Detector.open(packed(folder, tmp_path / "others.mar"))
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ArchiveRefused, match=r"photo.jpg is no archive"):
        Detector.open(tmp_path / "photo.jpg")


def test_an_archive_of_the_schema_before_is_read_and_served(
    scripted_archive: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(scripted_archive, tmp_path / "folder"))
    raw = json.loads((folder / SPEC_FILE).read_text())
    for missing in ("max_input_pixels", "max_drawn_pixels"):
        del raw["limits"][missing]
    del raw["provenance"]
    (folder / SPEC_FILE).write_text(json.dumps({**raw, "schema_version": 2}))
    older = packed(folder, tmp_path / "older.mar")
    spec = read_bundled_spec(older)
    assert (spec.schema_version, spec.provenance) == (2, None)
    assert spec.limits == DEFAULT_LIMITS
    with Detector.open(older) as detector:
        assert len(detector([IMAGE])) == 1
    (folder / SPEC_FILE).write_text(json.dumps({**raw, "schema_version": 1}))
    with pytest.raises(
        SpecError, match=r"oldest.mar: .*schema_version 1; this library reads 2 and"
    ):
        read_bundled_spec(packed(folder, tmp_path / "oldest.mar"))


WITHOUT_TORCH = """
import sys
import numpy
from d2serve.handlers.detector import Detector
detector = Detector.open(sys.argv[1])
assert len(detector([numpy.zeros((9, 9, 3), numpy.uint8)])) == 1
print(sorted(each for each in sys.modules if each.split(".")[0] in ("torch", "detectron2")))
"""


def test_an_onnx_program_is_opened_without_torch(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    spec = test_onnxruntime.write_program(tmp_path / "folder")
    (tmp_path / "folder" / SPEC_FILE).write_text(spec.to_json())
    archive = packed(tmp_path / "folder", tmp_path / "m.mar", torch_py="stand_in = True")
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(archive)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (told.stdout, told.stderr) == ("[]\n", "")


@pytest.mark.parametrize(("setting", "expected"), [("3", 3), ("", 5)])
def test_threads_that_nobody_names(
    setting: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    monkeypatch.setattr("d2serve.handlers.detector.available_cores", lambda: 5)
    spec = test_onnxruntime.write_program(tmp_path)
    (tmp_path / SPEC_FILE).write_text(spec.to_json())
    runtime = Detector.open(tmp_path)._runtime
    assert isinstance(runtime, OnnxRuntime)
    assert runtime._sessions.call(test_onnxruntime.threads_of) == expected


def test_a_folder_of_a_mar_that_was_extracted(mar: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(mar).extractall(tmp_path / "extracted")
    assert len(Detector.open(tmp_path / "extracted")([IMAGE])) == 1


@pytest.mark.parametrize(
    ("manifest", "version"),
    [
        ('{"model": {"modelVersion": "2.1"}}', "2.1"),
        ('{"model": {"modelVersion": 3}}', "3"),
        ('{"model": {}}', FIRST_VERSION),
        ("{", FIRST_VERSION),
        (None, FIRST_VERSION),
    ],
)
def test_the_version_of_an_archive_and_of_an_extracted_one(
    tmp_path: Path, manifest: str | None, version: str
) -> None:
    folder, archive = tmp_path / "extracted", tmp_path / "x.mar"
    (folder / MANIFEST).parent.mkdir(parents=True)
    if manifest is not None:
        (folder / MANIFEST).write_text(manifest)
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("else", "")
        if manifest is not None:
            written.writestr(MANIFEST, manifest)
    assert read_version(folder) == read_version(archive) == version
