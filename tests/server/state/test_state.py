"""The file that holds what was registered, and what a server with such a file starts with."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from d2serve.client.errors import ArchiveRefused, ServerStartError
from d2serve.server.archives.model_archives import ServedModel
from d2serve.server.archives.own_settings import own_settings
from d2serve.server.state.registrations import Registration, snapshot
from d2serve.server.state.starting import Start, moved, planned
from d2serve.server.state.state_file import State, read_state, write_state
from tests.cli.small_archives import small_archive

SETTINGS = {"default_workers_per_model": "3", "default_response_timeout": "50"}


def served(archive: Path, version: str, *, is_default: bool = True) -> Registration:
    return Registration("shapes", version, is_default, archive, 2, 4, 8, 20, 60, 90)


def start(state: State | None, *given: Path, folder: Path) -> Start:
    models = [ServedModel("shapes", each) for each in given]
    return planned(state, models, SETTINGS, folder / "state.json")


def models_of(planned: Start) -> dict[str, dict[str, dict[str, object]]]:
    found: dict[str, dict[str, dict[str, object]]] = json.loads(
        planned.overrides["model_snapshot"]
    )["models"]
    return found


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return small_archive(tmp_path / "shapes.mar")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return small_archive(tmp_path / "shapes-2.0.mar", version="2.0")


class TestTheFile:
    def test_what_is_written_is_read_again(self, one: Path, two: Path, tmp_path: Path) -> None:
        state = State(
            (served(two, "2.0"), served(one, "1.0", is_default=False)),
            frozenset({("shapes", "1.0")}),
        )
        file = tmp_path / "state.json"
        assert read_state(file) is None
        write_state(file, state)
        write_state(file, state)
        assert read_state(file) == state
        assert not list(tmp_path.glob(".*.partial"))

    def test_a_disk_that_is_full_leaves_the_state_before(
        self, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "state.json"
        state = State((served(one, "1.0"),), frozenset())
        write_state(file, state)

        def full(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_state(file, State((), frozenset()))
        assert read_state(file) == state
        assert [each.name for each in tmp_path.iterdir() if each.suffix == ".partial"] == []

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "{}",
            '{"d2serve_state": 2, "given": [], "models": []}',
            '{"d2serve_state": 1, "given": [], "models": [{"name": "shapes"}]}',
            '{"d2serve_state": 1, "given": [1], "models": []}',
        ],
    )
    def test_what_is_no_state_is_refused_with_what_to_do(self, text: str, tmp_path: Path) -> None:
        file = tmp_path / "state.json"
        file.write_text(text)
        with pytest.raises(ServerStartError, match=r"state\.json is no state.*Move it away"):
            read_state(file)

    def test_a_number_that_is_none_is_refused(self, one: Path, tmp_path: Path) -> None:
        file = tmp_path / "state.json"
        write_state(file, State((served(one, "1.0"),), frozenset()))
        file.write_text(file.read_text().replace('"min_workers": 2', '"min_workers": "two"'))
        with pytest.raises(ServerStartError, match="min_workers is 'two'"):
            read_state(file)

    def test_what_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ServerStartError, match="cannot be read"):
            read_state(tmp_path)


class TestTheStart:
    def test_without_a_state_it_is_what_the_command_names(self, one: Path, tmp_path: Path) -> None:
        planned = start(None, one, folder=tmp_path)
        assert planned == Start([f"shapes={one}"], {}, frozenset({("shapes", "1.0")}), ())

    def test_what_was_retired_stays_retired_and_what_is_new_is_added(
        self, one: Path, two: Path, tmp_path: Path
    ) -> None:
        three = small_archive(tmp_path / "three.mar", version="3.0")
        state = State((served(two, "2.0"),), frozenset({("shapes", "1.0")}))
        planned = start(state, one, three, folder=tmp_path)
        assert planned.models == [f"shapes={two}", f"shapes={three}"]
        assert planned.added == ("shapes 3.0",)
        assert planned.given == {("shapes", "1.0"), ("shapes", "3.0")}
        models = models_of(planned)["shapes"]
        assert models["2.0"] == {
            "defaultVersion": True,
            "marName": "shapes-2.0.mar",
            "minWorkers": 2,
            "maxWorkers": 4,
            "batchSize": 8,
            "maxBatchDelay": 20,
            "responseTimeout": 60,
            "startupTimeout": 90,
        }
        assert models["3.0"] == {
            "defaultVersion": False,
            "marName": "three.mar",
            "minWorkers": 3,
            "maxWorkers": 3,
            "batchSize": 1,
            "maxBatchDelay": 100,
            "responseTimeout": 50,
            "startupTimeout": 120,
        }

    def test_a_model_that_is_new_has_a_default_version_and_what_its_archive_says(
        self, one: Path, tmp_path: Path
    ) -> None:
        other = small_archive(tmp_path / "other.mar", name="other")
        with zipfile.ZipFile(other, "a") as archive:
            archive.writestr("model-config.yaml", "minWorkers: 1\nmaxWorkers: 2\nbatchSize: 4\n")
        manifest = '{"model": {"modelName": "other", "configFile": "model-config.yaml"}}'
        with zipfile.ZipFile(other) as archive:
            kept = {name: archive.read(name) for name in archive.namelist()}
        kept["MAR-INF/MANIFEST.json"] = manifest.encode()
        with zipfile.ZipFile(other, "w") as archive:
            for name, content in kept.items():
                archive.writestr(name, content)
        assert own_settings(other) == {"minWorkers": 1, "maxWorkers": 2, "batchSize": 4}
        state = State((served(one, "1.0"),), frozenset())
        planned_start = planned(state, [ServedModel("new", other)], SETTINGS, tmp_path / "s.json")
        (added,) = models_of(planned_start)["new"].values()
        wanted = {"defaultVersion": True, "minWorkers": 1, "maxWorkers": 2, "batchSize": 4}
        assert wanted.items() <= added.items()

    def test_an_archive_that_is_gone_is_named(self, one: Path, two: Path, tmp_path: Path) -> None:
        state = State((served(two, "2.0"), served(one, "1.0", is_default=False)), frozenset())
        two.unlink()
        with pytest.raises(ServerStartError, match=r"state\.json.*shapes-2\.0\.mar \(shapes 2\.0"):
            start(state, folder=tmp_path)

    def test_it_is_found_by_its_name_in_a_store_that_was_moved(
        self, two: Path, tmp_path: Path
    ) -> None:
        state = State((served(Path("/elsewhere/shapes-2.0.mar"), "2.0"),), frozenset())
        (found,) = moved(state, tmp_path).registrations
        assert found.archive == two

    def test_a_file_that_holds_another_version_by_now_is_named(
        self, two: Path, tmp_path: Path
    ) -> None:
        state = State((served(two, "1.0"),), frozenset())
        with pytest.raises(ServerStartError, match=r"holds version 2\.0, and .* says that 1\.0"):
            start(state, folder=tmp_path)

    def test_with_nothing_left_it_says_what_to_do(self, one: Path, tmp_path: Path) -> None:
        state = State((), frozenset({("shapes", "1.0")}))
        with pytest.raises(ServerStartError, match="every model was unregistered"):
            start(state, one, folder=tmp_path)

    def test_settings_of_an_archive_that_are_no_yaml_are_refused(self, tmp_path: Path) -> None:
        archive = tmp_path / "odd.mar"
        manifest = '{"model": {"modelName": "odd", "configFile": "model-config.yaml"}}'
        with zipfile.ZipFile(archive, "w") as written:
            written.writestr("MAR-INF/MANIFEST.json", manifest)
            written.writestr("model-config.yaml", "a: [")
        with pytest.raises(ArchiveRefused, match=r"model-config\.yaml of .*odd\.mar"):
            own_settings(archive)


def test_the_snapshot_has_the_default_version_first_and_counts(one: Path, two: Path) -> None:
    registrations = [served(two, "2.0"), replace(served(one, "1.0"), is_default=False)]
    made = json.loads(snapshot(registrations))
    assert made["modelCount"] == 2
    assert list(made["models"]["shapes"]) == ["2.0", "1.0"]
