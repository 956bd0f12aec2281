"""The file name of an archive in a model store, by its model's name and version.

Two versions of a model are two files, so that a store holds, and TorchServe serves, both. What is
in a store already is replaced only by another export of the same model and version.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from d2serve.export.errors import ArchiveError

DEFAULT_VERSION = "1.0"
_MANIFEST = "MAR-INF/MANIFEST.json"


def archive_file(store: Path, name: str, version: str) -> Path:
    """Where an archive belongs: NAME.mar for version 1.0, and NAME-VERSION.mar for any other."""
    return store / (f"{name}.mar" if version == DEFAULT_VERSION else f"{name}-{version}.mar")


def require_place(store: Path, name: str, version: str) -> Path:
    """Where an archive of this model and version may be written.

    Raises:
        ArchiveError: another model, or another version of it, has that file name.
    """
    file = archive_file(store, name, version)
    held = _held(file)
    if held is not None and held != (name, version):
        raise ArchiveError(
            f"{file} holds version {held[1]} of {held[0]}, which version {version} of {name} would "
            f"replace. Rename {file.name} (TorchServe takes any file name), or choose another "
            "--name, --version or --output."
        )
    return file


def _held(file: Path) -> tuple[str, str] | None:
    """Name and version of the model in an archive; None where there is no readable archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            model = json.loads(archive.read(_MANIFEST))["model"]
            return str(model["modelName"]), str(model["modelVersion"])
    except Exception:  # whatever it is, it is no archive that anybody could serve
        return None
