"""Builds examples/cpp for its tests, once: with warnings as errors, and with sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from environment.cpp import definitions as defined_here
from tests.exports import ROOT

SOURCES = ROOT / "examples" / "cpp"
BUILT = Path(sys.prefix) / ".d2serve" / "cpp-tests"
"""Builds stay there, so that a second run compiles only what has changed."""


def built(name: str, *definitions: str, target: str = "all") -> Path:
    """The folder of a build of examples/cpp, made or brought up to date."""
    folder = BUILT / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        configure(SOURCES, folder, "-DD2SERVE_TESTS=ON", *defined_here(), *definitions)
        run("cmake", "--build", folder, "--target", target)
    return folder


def configure(sources: Path, folder: Path, *definitions: str) -> None:
    """Configure a CMake project for Ninja."""
    run("cmake", "-S", sources, "-B", folder, "-G", "Ninja", *definitions)


def run(*command: str | Path, **environment: str) -> str:
    """Run a command that must succeed, and give what it printed."""
    # The environment's own cmake and ninja come first.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*map(str, command)],
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout
