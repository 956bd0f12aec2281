"""The archive of a new version: how it is registered, and how it comes into the server's store."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from d2serve.client.errors import ArchiveRefused, InvalidInput
from d2serve.client.model_descriptions import parse_description
from d2serve.server.upgrading.checking import sample
from d2serve.server.upgrading.newcomer import (
    Newcomer,
    NotBrought,
    brought,
    find_archive,
    read_newcomer,
    store_beside,
)
from tests.cli.small_archives import small_archive

SERVED = {
    "modelName": "shapes",
    "modelVersion": "1.0",
    "modelUrl": "shapes.mar",
    "minWorkers": 1,
    "maxWorkers": 1,
    "batchSize": 8,
    "maxBatchDelay": 50,
    "responseTimeout": 60,
    "startupTimeout": 120,
    "workers": [],
    "jobQueueStatus": {"remainingCapacity": 100, "pendingRequests": 0},
}


def configured(file: Path, version: str, settings: str) -> Path:
    manifest = {
        "model": {"modelName": "m", "modelVersion": version, "configFile": "model-config.yaml"}
    }
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("model-config.yaml", settings)
    return file


@pytest.fixture
def newcomer(tmp_path: Path) -> Newcomer:
    (tmp_path / "new").mkdir()
    return read_newcomer(small_archive(tmp_path / "new" / "b.mar", version="2.0"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    made = tmp_path / "model_store"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        # What somebody had set otherwise than the archive says is kept.
        ("batchSize: 1", "batchSize: 1", {"batch_size": 8, "max_batch_delay": 50}),
        # What the archive says is the new archive's affair.
        ("batchSize: 8\nmaxBatchDelay: 50", "batchSize: 4", {}),
        ("maxBatchDelay: 50", "batchSize: 4", {}),
        ("a: 1", "a: 1", {"batch_size": 8, "max_batch_delay": 50}),
    ],
)
def test_a_new_version_is_registered_as_the_old_one_is(
    old: str, new: str, kept: dict[str, int], tmp_path: Path
) -> None:
    newcomer = read_newcomer(configured(tmp_path / "new.mar", "2.0", new))
    old_archive = configured(tmp_path / "old.mar", "1.0", old)
    served = parse_description(SERVED)
    assert newcomer.batching(served, old_archive) == {**kept, "response_timeout": 60}
    whole = {"batch_size": 8, "max_batch_delay": 50, "response_timeout": 60}
    assert newcomer.batching(served, None) == whole


def test_workers_that_an_archive_insists_on(tmp_path: Path) -> None:
    for settings, workers in (
        ("minWorkers: 2\nmaxWorkers: 3", (2, 3)),
        ("minWorkers: 2", None),
        ("minWorkers: 3\nmaxWorkers: 2", None),
        ("", None),
    ):
        assert read_newcomer(configured(tmp_path / "m.mar", "2.0", settings)).workers == workers


def test_an_archive_is_copied_into_a_users_store_and_taken_out_if_it_fails(
    newcomer: Newcomer, store: Path
) -> None:
    def fail() -> None:
        with brought(newcomer, "shapes", store) as url:
            assert (store / url).read_bytes() == newcomer.archive.read_bytes()
            raise RuntimeError(url)

    with pytest.raises(RuntimeError, match=r"b\.mar"):
        fail()
    assert not list(store.iterdir())
    with brought(newcomer, "shapes", store):
        pass
    assert not (store / "b.mar").is_symlink()
    with pytest.raises(RuntimeError):
        fail()
    assert (store / "b.mar").is_file(), "it was there before"


def test_an_archive_of_another_name_is_not_replaced(newcomer: Newcomer, store: Path) -> None:
    (store / "b.mar").write_bytes(b"another")
    with brought(newcomer, "shapes", store) as url:
        assert url == "shapes-2.0.mar"
    (store / "shapes-2.0.mar").write_bytes(b"one more")
    with (
        pytest.raises(NotBrought, match=r"other archives there are called b\.mar and shapes-2\.0"),
        brought(newcomer, "shapes", store),
    ):
        pass


def test_a_private_store_gets_a_link(newcomer: Newcomer, tmp_path: Path) -> None:
    directory = tmp_path / "d2serve-run-x"
    (directory / "models").mkdir(parents=True)
    key_file = directory / "key_file.json"
    key_file.write_text("{}")
    link = tmp_path / "key_file.json"
    link.symlink_to(key_file)
    store = store_beside(link)
    assert store is not None
    with brought(newcomer, "shapes", store) as url:
        assert (store / url).readlink() == newcomer.archive
    assert store_beside(tmp_path / "new" / "key_file.json") is None


def test_a_name_that_torchserve_cannot_take_is_changed_or_refused(store: Path) -> None:
    odd = small_archive(store.with_name("a, b.mar"), version="2.0")
    with brought(read_newcomer(odd), "shapes", store) as url:
        assert url == "shapes-2.0.mar"
    inside = read_newcomer(small_archive(store / "a b.mar", version="2.0"))
    with pytest.raises(ArchiveRefused, match="without spaces"), brought(inside, "shapes", store):
        pass


def test_an_archive_is_found_as_a_path_or_in_the_store(newcomer: Newcomer, store: Path) -> None:
    assert find_archive(newcomer.archive, None) == newcomer.archive
    inside = small_archive(store / "c.mar")
    assert find_archive(Path("c.mar"), store) == inside
    with pytest.raises(ArchiveRefused, match=r"no archive d\.mar: expected"):
        find_archive(Path("d.mar"), None)


def test_a_picture_is_made_of_the_channels_that_a_model_takes(
    newcomer: Newcomer, tmp_path: Path
) -> None:
    made = sample(None, newcomer.spec)
    assert getattr(made.image, "shape", None) == (480, 640, 3) == (*(made.size or ()), 3)
    with pytest.raises(InvalidInput, match=r"--image .*none\.jpg cannot be read"):
        sample(tmp_path / "none.jpg", None)
