"""The programs that are compared, and what has to be deployed for each.

What a C++ program needs are the files that ``cmake --install`` collects for its engine. What the
Python library needs are the wheels that pip installs for its runtime, without Python itself.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_LIBRARY = ("numpy", "pillow", "orjson", "pycocotools", "simplejpeg")
"""What handlers/ imports beside its runtime."""
_PACKAGES = {"openvino": ("openvino",), "torchscript": ("torch", "torchvision")}
_ENGINES = {
    "openvino": ("libd2serve_openvino", "libopenvino", "libtbb"),
    "torchscript": ("libd2serve_libtorch", "libtorch", "libc10", "libgomp", "libcu"),
}
"""How the names of an engine's files begin."""


@dataclass(frozen=True)
class Side:
    """One program, and the archive that it answers from."""

    runtime: str
    kind: str
    """Of archive, as tests/ways.py calls it."""
    in_cpp: bool

    @property
    def label(self) -> str:
        engine = {"openvino": "OpenVINO", "torchscript": "TorchScript"}[self.runtime]
        return f"{engine}, {'C++' if self.in_cpp else 'Python'}"

    def command(self, installed: Path, archive: Path) -> list[str]:
        """Before the names of the images."""
        if self.in_cpp:
            return [str(installed / "bin" / "d2serve_predict"), "--time", str(archive)]
        return [sys.executable, "-W", "ignore", "-m", "benchmarks.cpp.python_program", str(archive)]

    def megabytes(self, installed: Path) -> float:
        """What has to be deployed, in MB."""
        if not self.in_cpp:
            return _of_wheels(*_LIBRARY, *_PACKAGES[self.runtime])
        others = [names for runtime, names in _ENGINES.items() if runtime != self.runtime]
        files = [*(installed / "bin").iterdir(), *(installed / "lib").glob("*.so*")]
        return (
            sum(
                file.stat().st_size
                for file in files
                if not file.is_symlink() and not any(map(file.name.startswith, *others))
            )
            / 1e6
        )


SIDES = tuple(
    Side(runtime, kind, in_cpp)
    for runtime, kind in (("openvino", "openvino"), ("torchscript", "scripting"))
    for in_cpp in (True, False)
)


def _of_wheels(*names: str) -> float:
    wanted, seen, total = list(names), set(), 0
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # of another platform
            continue
        paths = (Path(str(found.locate_file(file))) for file in found.files or ())
        total += sum(path.stat().st_size for path in paths if path.is_file())
        wanted += [
            re.split(r"[^\w.-]", needed)[0]
            for needed in found.requires or ()
            if "extra ==" not in needed
        ]
    return total / 1e6
