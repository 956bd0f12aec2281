"""Archives that are made once for all the tests that only read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.handlers.programs import write_archive


@pytest.fixture(scope="session")
def scripted_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("scripted"), "scripting")


@pytest.fixture(scope="session")
def traced_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("traced"), "tracing")
