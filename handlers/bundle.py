"""Reads what `d2serve export` made: a .mar, or the folder that one was extracted to.

The two are told apart by looking, not by name. Of a .mar the spec is read where it lies, and only
the program's own files are unpacked, since runtimes map or read files: not the library inside, and
not the stand-in for torch, which would hide an installed torch from whoever has its folder on
``sys.path``.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from d2serve.handlers.archive_checks import opened_archive, read_spec_text
from d2serve.handlers.errors import ArchiveRefused, LoadError, SpecError
from d2serve.handlers.spec.model_spec import SPEC_FILE, ModelSpec, read_spec

MANIFEST = "MAR-INF/MANIFEST.json"
"""In which the archiver wrote name and version of the model."""

FIRST_VERSION = "1.0"
"""Of a model whose archive says none, as the archiver has it."""


def read_bundled_spec(path: Path) -> ModelSpec:
    """The spec of a .mar or of an extracted one, without a runtime and without unpacking.

    Raises:
        LoadError: it is neither, it is damaged, or its spec is of a schema that is not read here.
    """
    if path.is_dir():
        return read_spec(path)
    with opened_archive(path) as archive:
        return _spec(path, archive)


def read_version(path: Path) -> str:
    """The model's version, as the manifest of a .mar or of an extracted one says; FIRST_VERSION
    where there is none.

    Raises:
        LoadError: it is no archive, or damaged.
    """
    if path.is_dir():
        file = path / MANIFEST
        return _version(file.read_bytes()) if file.is_file() else FIRST_VERSION
    with opened_archive(path) as archive:
        return _version(archive.read(MANIFEST) if MANIFEST in archive.namelist() else b"{}")


def _version(manifest: bytes) -> str:
    try:
        return str(json.loads(manifest)["model"]["modelVersion"])
    except (ValueError, LookupError, TypeError):
        return FIRST_VERSION


def unpack_program(path: Path) -> Path:
    """Unpack a .mar's spec and program into a new private folder, which is the caller's to remove.

    Raises:
        LoadError: see ``copy_program``.
    """
    folder = Path(tempfile.mkdtemp(prefix="d2serve-program-"))
    try:
        copy_program(path, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def copy_program(path: Path, folder: Path, where_there: Sequence[str] = ()) -> None:
    """Copy the spec and program of a .mar, or of an extracted one, into a folder.

    Args:
        where_there: names of other files to copy, of those that it has.

    Raises:
        LoadError: see ``read_bundled_spec``; or the disk is full.
    """
    if path.is_dir():
        files = (SPEC_FILE, *read_spec(path).sha256)
        for name in (*files, *(each for each in where_there if (path / each).is_file())):
            _copy(path, partial(_opened, path / name), name, folder)
        return
    with opened_archive(path) as archive:
        files = (SPEC_FILE, *_spec(path, archive).sha256)
        for name in (*files, *(each for each in where_there if each in archive.namelist())):
            _copy(path, partial(archive.open, name), name, folder)


def _spec(path: Path, archive: zipfile.ZipFile) -> ModelSpec:
    text = read_spec_text(path, archive)
    if text is None:
        raise SpecError(
            f"{path} has no {SPEC_FILE}: it is an archive of another maker, expected one made by "
            "`d2serve export`."
        )
    try:
        return ModelSpec.from_json(text.decode("utf-8", "replace"))
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def _opened(file: Path) -> IO[bytes]:
    return file.open("rb")


def _copy(path: Path, opened: Callable[[], IO[bytes]], name: str, folder: Path) -> None:
    try:
        source = opened()
    except (KeyError, FileNotFoundError):
        raise ArchiveRefused(
            f"{path} has no {name}, which its {SPEC_FILE} names. It was changed or damaged: export "
            "it again."
        ) from None
    with source:
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except OSError as error:
            raise LoadError(
                f"{name} of {path} cannot be unpacked to {folder} ({error.strerror or error}): "
                "free some space there, or set TMPDIR to a folder with room."
            ) from error
