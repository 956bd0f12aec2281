"""Transformed weights are shared through a file; where that fails, each worker holds its own."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from d2serve.kernels.library import library
from d2serve.kernels.winograd import transform

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels are installed")


def drawn(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_file_is_made_once_and_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from d2serve.kernels import weights as module

    first = module.transformed(drawn(9, 5, 3, 3), tmp_path)
    (file,) = (tmp_path / "winograd").iterdir()
    written = file.stat().st_mtime_ns
    monkeypatch.setattr(module, "transform", lambda _: pytest.fail("it is there already"))
    second = module.transformed(drawn(9, 5, 3, 3), tmp_path)
    assert file.stat().st_mtime_ns == written
    for found in (first, second):
        assert isinstance(found, np.memmap)
        assert not found.flags.writeable
        np.testing.assert_array_equal(found, transform(drawn(9, 5, 3, 3)))


def test_each_layer_has_its_own(tmp_path: Path) -> None:
    from d2serve.kernels.weights import transformed

    weights = drawn(8, 8, 3, 3)
    transformed(weights, tmp_path)
    np.testing.assert_array_equal(transformed(-weights, tmp_path), transform(-weights))
    assert len(list((tmp_path / "winograd").iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"no array", b"short"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: bytes) -> None:
    from d2serve.kernels.weights import transformed

    weights = drawn(8, 8, 3, 3)
    transformed(weights, tmp_path)
    (file,) = (tmp_path / "winograd").iterdir()
    file.write_bytes(file.read_bytes()[:-4] if damage == b"short" else damage)
    np.testing.assert_array_equal(transformed(weights, tmp_path), transform(weights))
    assert isinstance(transformed(weights, tmp_path), np.memmap)


def test_a_folder_that_cannot_be_written_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from d2serve.kernels.weights import transformed

    (tmp_path / "winograd").write_text("a file is in the way, as on a read-only disk")
    with caplog.at_level(logging.WARNING):
        found = transformed(drawn(8, 8, 3, 3), tmp_path)
    np.testing.assert_array_equal(found, transform(drawn(8, 8, 3, 3)))
    assert "each worker holds its own" in caplog.text
    assert transformed(drawn(8, 8, 3, 3), None).flags.writeable
