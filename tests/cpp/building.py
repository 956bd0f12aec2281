"""Builds examples/cpp for its tests, once: with warnings as errors, and with sanitizers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from tests.exports import ROOT

SOURCES = ROOT / "examples" / "cpp"
BUILT = Path(sys.prefix) / ".d2serve" / "cpp-tests"
"""Builds stay there, so that a second run compiles only what has changed."""
_HEADERS = ("jpeglib.h", "png.h", "zlib.h")


def lacking() -> str | None:
    """What is missing to build it, in words; None where nothing is."""
    if shutil.which("g++") is None:
        return "there is no g++: apt-get install g++ libjpeg-dev libpng-dev zlib1g-dev"
    included = "#include <stdio.h>\n" + "".join(f"#include <{each}>\n" for each in _HEADERS)
    tried = subprocess.run(
        ["g++", "-x", "c++", "-fsyntax-only", "-"], input=included, text=True, capture_output=True
    )
    if tried.returncode:
        return "there is no jpeglib.h or png.h: apt-get install libjpeg-dev libpng-dev zlib1g-dev"
    for module in ("nlohmann_json", "openvino"):
        if importlib.util.find_spec(module) is None:
            return f"there is no {module}: pip install '.[cpp]'"
    return None


def options(*more: str) -> list[str]:
    """What CMake has to be told to find what the environment's wheels bring."""
    found = importlib.util.find_spec("nlohmann_json")
    assert found is not None
    assert found.submodule_search_locations is not None
    [json] = found.submodule_search_locations
    return [f"-DNLOHMANN_JSON_INCLUDE_DIR={json}/include", *more]


def openvino_options() -> list[str]:
    """Where OpenVINO's CMake files are."""
    from openvino.utils import get_cmake_path

    return [f"-DOpenVINO_DIR={get_cmake_path()}"]


def built(name: str, *definitions: str, target: str = "all") -> Path:
    """The folder of a build of examples/cpp, made or brought up to date."""
    folder = BUILT / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        configure(SOURCES, folder, "-DD2SERVE_TESTS=ON", *options(*definitions))
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
