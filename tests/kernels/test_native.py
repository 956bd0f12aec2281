"""The native code touches nothing beside its arrays, and its threads nothing of each other."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.building import driver, needs_compiler

SANITIZED = ("-g", "-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")


def run(*command: str | Path) -> None:
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_compiler
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_under_sanitizers(tmp_path: Path, sanitizer: str) -> None:
    run(driver(tmp_path, *SANITIZED, f"-fsanitize={sanitizer}"))


@needs_compiler
@pytest.mark.long
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_under_valgrind(tmp_path: Path) -> None:
    # It hides AVX-512 from programs, so that two ways are left.
    run("valgrind", "--quiet", "--error-exitcode=1", driver(tmp_path, "-g", "-O2"))
