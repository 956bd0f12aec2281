"""Says what examples/cpp is to be built with here: `python -m environment.cpp`, for `make cpp`.

OpenVINO, the JSON header and torch come as wheels into the environment, in places where CMake does
not look. An engine is built where its library is there.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

INSTALLING = "sudo apt-get install -y g++ libjpeg-dev libpng-dev zlib1g-dev"
"""What has no wheel: the compiler, and the headers of what reads images."""
_HEADERS = ("jpeglib.h", "png.h", "zlib.h")


def lacking() -> str | None:
    """What is missing to build it, in words, or None where nothing is."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        return f"examples/cpp needs a C++ compiler, and there is none: {INSTALLING}"
    for header in _HEADERS:
        tried = subprocess.run(
            [compiler, "-x", "c++", "-fsyntax-only", "-"],
            input=f"#include <stdio.h>\n#include <{header}>\n",
            text=True,
            capture_output=True,
            check=False,
        )
        if tried.returncode:
            return f"examples/cpp needs {header}, which {compiler} does not find: {INSTALLING}"
    for module in ("nlohmann_json", "openvino"):
        if _folder(module) is None:
            return f"examples/cpp needs {module}, which is not installed here: pip install '.[cpp]'"
    return None


def definitions() -> list[str]:
    """What CMake has to be told, where nothing is lacking."""
    from openvino.utils import get_cmake_path

    torch = _folder("torch")
    return [
        f"-DNLOHMANN_JSON_INCLUDE_DIR={_folder('nlohmann_json')}/include",
        f"-DOpenVINO_DIR={get_cmake_path()}",
        *([] if torch is None else ["-DD2SERVE_LIBTORCH=ON", f"-DD2SERVE_TORCH={torch}"]),
    ]


def _folder(module: str) -> Path | None:
    """Where a module lies, without importing it."""
    found = importlib.util.find_spec(module)
    places = found.submodule_search_locations if found else None
    return Path(next(iter(places))) if places else None


def main() -> None:
    """Print the definitions, or end with what is lacking."""
    missing = lacking()
    if missing:
        raise SystemExit(missing)
    print(*definitions())


if __name__ == "__main__":
    main()
