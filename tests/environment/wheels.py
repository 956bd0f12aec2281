"""Wheels of a few lines, written by hand: pip installs them without a registry."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

BACKEND = """
import shutil
from pathlib import Path

def build_wheel(folder, config_settings=None, metadata_directory=None):
    (wheel,) = Path("built").glob("*.whl")
    shutil.copy(wheel, folder)
    return wheel.name
"""
"""A build backend for a project whose wheel is written already, in its folder ``built``."""


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    requires: Sequence[str] = (),
    modules: Mapping[str, str] | None = None,
) -> None:
    """Write a wheel.

    Args:
        folder: where to.
        name, version: of the distribution.
        requires: Requires-Dist lines; an extra is declared for each marker ``extra == "..."``.
        modules: text by path; one module of the distribution's name by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    extras = {line.rpartition('extra == "')[2].rstrip('"') for line in requires if "extra" in line}
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Provides-Extra: {extra}" for extra in sorted(extras)]
    metadata += [f"Requires-Dist: {line}" for line in requires]
    info = f"{name}-{version}.dist-info"
    texts = {f"{name}.py": f"__version__ = {version!r}\n"} if modules is None else dict(modules)
    top_level = sorted({path.partition("/")[0].removesuffix(".py") for path in texts})
    texts[f"{info}/METADATA"] = "\n".join(metadata) + "\n"
    texts[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    texts[f"{info}/top_level.txt"] = "\n".join(top_level) + "\n"
    texts[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*texts, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in texts.items():
            wheel.writestr(path, text)
