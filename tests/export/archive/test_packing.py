"""The bytes of an archive depend on what is in it, and on SOURCE_DATE_EPOCH."""

from __future__ import annotations

import json
import os
import time
import zipfile
from pathlib import Path

import pytest

from d2serve.export.archive.packing import pack
from d2serve.export.errors import ArchiveError


def laid_out(folder: Path, names: list[str], mode: int, when: float, created: str) -> Path:
    (folder / "MAR-INF").mkdir(parents=True)
    manifest = {"createdOn": created, "model": {"modelName": "m"}}
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    for name in names:
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"content of {name}")
        file.chmod(mode)
        os.utime(file, (when, when))
    return folder


NAMES = ["model.pt", "d2serve/handlers.py", "a.py"]


def test_neither_time_nor_order_nor_permissions_are_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    first = laid_out(tmp_path / "1", NAMES, 0o600, 1.0e9, "24/11/2026 01:02:03")
    second = laid_out(tmp_path / "2", NAMES[::-1], 0o755, time.time(), "25/11/2026 03:02:01")
    packed = [pack(folder, folder.with_suffix(".mar")) for folder in (first, second)]
    assert packed[0].read_bytes() == packed[1].read_bytes()
    with zipfile.ZipFile(packed[0]) as archive:
        entries = archive.infolist()
        assert json.loads(archive.read("MAR-INF/MANIFEST.json"))["createdOn"] == (
            "01/01/1980 00:00:00"
        )
    assert [each.filename for each in entries] == sorted([*NAMES, "MAR-INF/MANIFEST.json"])
    assert {each.date_time for each in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {each.external_attr >> 16 for each in entries} == {0o100644}
    assert {each.compress_type for each in entries} == {zipfile.ZIP_STORED}


def test_the_source_date_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764061443")
    folder = laid_out(tmp_path / "1", NAMES, 0o644, 1.0e9, "")
    with zipfile.ZipFile(pack(folder, tmp_path / "1.mar")) as archive:
        assert {each.date_time for each in archive.infolist()} == {(2025, 11, 25, 9, 4, 2)}
        created = json.loads(archive.read("MAR-INF/MANIFEST.json"))["createdOn"]
    assert created == "25/11/2025 09:04:03"


def test_a_date_before_zip_files_is_their_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    folder = laid_out(tmp_path / "1", NAMES, 0o644, 1.0e9, "")
    with zipfile.ZipFile(pack(folder, tmp_path / "1.mar")) as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize("named", ["yesterday", "-1", "1.5"])
def test_a_date_that_is_none_is_named(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", named)
    folder = laid_out(tmp_path / "1", NAMES, 0o644, 1.0e9, "")
    with pytest.raises(ArchiveError, match=f"SOURCE_DATE_EPOCH is '{named}', expected whole sec"):
        pack(folder, tmp_path / "1.mar")
