"""Two versions of a model are two files of a store, and none replaces another unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2serve.export.archive.installing import install
from d2serve.export.errors import ArchiveError, ConfigError
from d2serve.export.naming import archive_file, name_from, require_place, require_writable
from d2serve.export.pipeline import export
from d2serve.export.reading.config import ConfigSource
from d2serve.export.request import ExportRequest, Progress
from tests.cli.small_archives import small_archive


def installed(store: Path, name: str, version: str) -> Path:
    made = small_archive(store.with_name("made.mar"), name, version)
    return install(made, store, name, version)


def test_every_version_has_a_file_and_the_first_is_called_as_the_model(tmp_path: Path) -> None:
    store = tmp_path / "store"
    files = [installed(store, "shapes", version) for version in ("1.0", "2.0", "1.1", "2.0")]
    names = ["shapes.mar", "shapes-2.0.mar", "shapes-1.1.mar", "shapes-2.0.mar"]
    assert [file.name for file in files] == names
    assert sorted(file.name for file in store.iterdir()) == sorted(set(names))


@pytest.mark.parametrize(
    ("held", "name", "version"),
    [
        (("shapes", "2.0"), "shapes", "1.0"),  # as older versions of d2serve called it
        (("animals", "1.0"), "shapes", "1.0"),
        (("shapes-2.0", "1.0"), "shapes", "2.0"),
        (("Shapes", "1.0"), "shapes", "1.0"),  # one file where case does not count
    ],
)
def test_an_archive_of_another_model_or_version_is_not_replaced(
    held: tuple[str, str], name: str, version: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    small_archive(archive_file(store, name, version), *held)
    before = archive_file(store, name, version).read_bytes()
    with pytest.raises(ArchiveError, match=f"holds version {held[1]} of {held[0]}") as caught:
        installed(store, name, version)
    assert "--name" in str(caught.value)
    assert archive_file(store, name, version).read_bytes() == before


def test_an_export_is_refused_before_any_work(tmp_path: Path) -> None:
    small_archive(tmp_path / "shapes.mar", "shapes", "2.0")
    request = ExportRequest(ConfigSource("none.yaml"), "tracing", "shapes", output=tmp_path)
    with pytest.raises(ArchiveError, match="holds version 2"):
        export(request, Progress(lambda _step, _parts: pytest.fail("work began"), lambda: None))


def test_what_is_no_archive_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "shapes.mar").write_bytes(b"PK\x03\x04 cut short")
    assert require_place(tmp_path, "shapes", "1.0") == tmp_path / "shapes.mar"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mask_rcnn.yaml", "mask_rcnn"),
        ("my model (v2).yaml", "my_model_v2"),
        ("configs/modèle-3.1.yaml", "modele-3.1"),
        ("_base.yaml", "base"),
        ("模型 a1.py", "a1"),
    ],
)
def test_a_model_is_called_as_its_config_in_letters_that_an_address_has(
    file: str, name: str
) -> None:
    assert name_from(file) == name


def test_a_name_without_such_letters_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"模型\.yaml.*--name model"):
        name_from("模型.yaml")


def test_a_store_can_be_made_where_there_is_none_and_is_not_made_yet(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "store")
    assert not list(tmp_path.iterdir())


def test_a_store_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for store in (file, file / "store"):
        with pytest.raises(ArchiveError, match=r"--output .*file.* cannot be written to"):
            require_writable(store)
