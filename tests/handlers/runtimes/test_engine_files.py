"""Engines are built once, and kept where nobody else can put one."""

from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2serve.handlers.runtimes.gpu.engine_files import (
    FOLDER,
    engine_folder,
    engine_name,
    engine_of,
    forget,
)

FACTS = ("5f2e", "NVIDIA H200 9.0", "11.4.0", "fp32", "1333")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path / "engines"))
    return tmp_path / "engines"


class Builder:
    def __init__(self) -> None:
        self.built = 0

    def __call__(self) -> bytes:
        self.built += 1
        return b"engine"


def test_an_engine_is_built_once_for_each_set_of_facts(folder: Path) -> None:
    build = Builder()
    for gpu in ("NVIDIA H200 9.0", "NVIDIA T4 7.5", "NVIDIA H200 9.0"):
        assert engine_of(("5f2e", gpu, "11.4.0", "fp32", "1333"), build) == b"engine"
    assert build.built == 2
    assert sorted(file.suffix for file in folder.iterdir()) == [".engine"] * 2 + [".lock"] * 2
    assert folder.stat().st_mode & 0o777 == 0o700


def _build(file: Path) -> bytes:
    with file.open("a") as written:
        written.write("built\n")
    return b"engine"


def _worker(file: Path) -> None:
    assert engine_of(FACTS, lambda: _build(file)) == b"engine"


def test_of_workers_that_begin_at_once_one_builds(folder: Path, tmp_path: Path) -> None:
    del folder  # named by the environment
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=_worker, args=(tmp_path / "log",)) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
    assert [each.exitcode for each in workers] == [0] * 4
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_folder_that_others_may_write_is_not_trusted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir(mode=0o700)
    (folder / engine_name(FACTS)).write_bytes(b"another user's")
    folder.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert engine_of(FACTS, Builder()) == b"engine"
    assert FOLDER in caplog.text
    assert "others may write there" in caplog.text


def test_where_nothing_can_be_kept_an_engine_is_built_each_time(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file")
    build = Builder()
    assert [engine_of(FACTS, build) for _ in range(2)] == [b"engine"] * 2
    assert build.built == 2
    assert str(folder) in caplog.text


def test_an_engine_that_cannot_be_loaded_is_built_again(folder: Path) -> None:
    build = Builder()
    engine_of(FACTS, build)
    forget(FACTS)
    engine_of(FACTS, build)
    assert build.built == 2
    assert folder.is_dir()


def test_without_a_name_the_folder_is_of_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engine_folder() == tmp_path / "d2serve" / "engines"


@given(
    st.lists(st.text(max_size=12), min_size=5, max_size=5),
    st.lists(st.text(max_size=12), min_size=5, max_size=5),
)
def test_other_facts_have_another_name_that_is_one_file(one: list[str], other: list[str]) -> None:
    names = engine_name(tuple(one)), engine_name(tuple(other))
    assert (names[0] == names[1]) == (one == other)
    assert all("/" not in name and len(name) < 200 for name in names)
