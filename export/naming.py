"""The file name of an archive in a model store, by its model's name and version.

Two versions of a model are two files, so that a store holds, and TorchServe serves, both. What is
in a store already is replaced only by another export of the same model and version.
"""

from __future__ import annotations

import json
import re
import tempfile
import unicodedata
import zipfile
from pathlib import Path

from d2serve.export.errors import ArchiveError, ConfigError
from d2serve.handlers.bundle import MANIFEST

DEFAULT_VERSION = "1.0"


def name_from(config_file: str) -> str:
    """A name for the model of a config file: the file's, in the letters that a name may have.

    Raises:
        ConfigError: nothing of the file's name is left.
    """
    stem = Path(config_file).stem
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain).strip("_.-")
    if not name:
        raise ConfigError(
            f"The model's name would be that of {Path(config_file).name}, which has none of the "
            "letters and digits that a name in an address may have. Give one: --name model"
        )
    return name


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


def require_writable(store: Path) -> None:
    """Make sure that a model store can be written to, before the minutes that an export takes.

    Raises:
        ArchiveError: it is no folder, or one that the user may not write to.
    """
    there = store
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):  # which asks the file system itself
            pass
    except OSError as error:
        raise ArchiveError(
            f"--output {store} cannot be written to ({error.strerror}). Expected a folder that "
            "you may write to, or one that can be made."
        ) from error


def _held(file: Path) -> tuple[str, str] | None:
    """Name and version of the model in an archive; None where there is no readable archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            model = json.loads(archive.read(MANIFEST))["model"]
            return str(model["modelName"]), str(model["modelVersion"])
    except Exception:  # whatever it is, it is no archive that anybody could serve
        return None
