"""Make an environment for packages that pin much: `python -m environment.beside FOLDER FILE`.

What it does not have it takes from the environment that makes it, so that d2serve, torch and pytest
are not installed twice; what both have is its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

_PATHS = "zz-beside.pth"  # after all others: what lies in the environment itself comes first


def make_beside(folder: Path, requirements: Path) -> None:
    """Make the environment anew.

    Args:
        folder: of the environment; what is there is removed.
        requirements: as pip reads them.

    Raises:
        SystemExit: pip cannot install them; it has said why.
    """
    venv.create(folder, clear=True, symlinks=True, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if subprocess.run([*pip, "-r", str(requirements)], check=False).returncode:
        raise SystemExit(f"{requirements} cannot be installed into {folder}.")
    own = sysconfig.get_path("purelib", vars={"base": str(folder.absolute())})
    beside = sysconfig.get_path("purelib")
    Path(own, _PATHS).write_text(f"import site; site.addsitedir({beside!r})\n", encoding="utf-8")


def python_beside() -> Path:
    """The Python that made the environment in which this runs."""
    return Path(sys.prefix).parents[1] / "bin" / "python"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("requirements", type=Path)
    given = parser.parse_args()
    make_beside(given.folder, given.requirements)
