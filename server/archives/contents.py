"""What a model archive says of itself: its name, its version and its model_spec.json.

It is read without unpacking the archive and without any runtime, so that a store of large models is
listed at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2serve.client.errors import ArchiveRefused
from d2serve.handlers.archive_checks import opened_archive
from d2serve.handlers.bundle import MANIFEST
from d2serve.handlers.errors import LoadError, SpecError
from d2serve.handlers.spec.model_spec import PICTURE_FILE, SCHEMA_VERSION, SPEC_FILE, ModelSpec

Read = Callable[[str], bytes]
"""Gives the bytes of a file of an archive by its name; raises KeyError where there is none."""


@dataclass(frozen=True)
class ArchiveContents:
    """What an archive, or the folder that it was unpacked to, says of itself."""

    path: Path
    name: str
    """Of the model, in the manifest."""
    version: str
    """Of the model, in the manifest: TorchServe serves it as /predictions/NAME/VERSION."""
    size: int
    """Bytes of the file; 0 for a folder."""
    description: Mapping[str, Any] | None
    """The object of model_spec.json, of whatever schema; None where `d2serve export` did not make
    the archive."""
    picture: bytes | None = None
    """model.svg, the network of the model; None where the archive has none."""

    def spec(self) -> ModelSpec:
        """The whole of model_spec.json.

        Raises:
            ArchiveRefused: there is none, or this version of d2serve cannot read it.
        """
        if self.description is None:
            raise ArchiveRefused(
                f"{self.path} has no {SPEC_FILE}: expected an archive made by `d2serve export`. "
                "TorchServe may serve it all the same."
            )
        version = self.description.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise ArchiveRefused(
                f"{self.path} was made by a newer d2serve: its {SPEC_FILE} has schema_version "
                f"{version}, this one reads up to {SCHEMA_VERSION}. Upgrade d2serve here."
            )
        try:
            return ModelSpec.from_json(json.dumps(self.description))
        except SpecError as error:
            raise ArchiveRefused(f"{self.path}: {error}") from error

    def order(self) -> tuple[str, tuple[tuple[int, str], ...], str]:
        """What sorts archives by name and then by version, 2.0 before 10.0."""
        parts = re.findall(r"\d+|\D+", self.version)
        numbered = tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)
        return self.name, numbered, self.path.name


def read_contents(archive: Path, whole: bool = False) -> ArchiveContents:
    """Read what an archive says of itself.

    Args:
        archive: a .mar file, whatever its name ends in, or a folder that one was unpacked to.
        whole: compare the check sums of all files in the archive as well, which reads all of it.

    Raises:
        ArchiveRefused: it is missing, damaged or no archive. The message says what to do.
    """
    try:
        if archive.is_dir():
            return _contents(archive, 0, lambda name: _read_beside(archive, name))
        if not archive.exists():
            raise ArchiveRefused(
                f"{archive} cannot be opened: there is no such file. Expected a .mar file made by "
                "`d2serve export`; `d2serve list` shows those of a model store."
            )
        with opened_archive(archive) as opened:
            broken = opened.testzip() if whole else None
            if broken is not None:
                raise ArchiveRefused(
                    f"{archive} is truncated or damaged (bad check sum of {broken}). Copy it "
                    "again, or export it again."
                )
            return _contents(archive, archive.stat().st_size, opened.read)
    except LoadError as error:
        raise ArchiveRefused(str(error)) from error
    except OSError as error:
        raise ArchiveRefused(
            f"{archive} cannot be read ({error.strerror or error}): expected a .mar file that you "
            "may read. Correct the path or its permissions."
        ) from error


def _contents(archive: Path, size: int, read: Read) -> ArchiveContents:
    try:
        model = json.loads(read(MANIFEST))["model"]
        name, version = str(model["modelName"]), str(model.get("modelVersion", "1.0"))
        f"{name}{version}".encode()  # half of a surrogate pair could not even be printed
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _no_archive_error(archive, error) from error
    try:
        picture = read(PICTURE_FILE)
    except KeyError:
        picture = None
    return ArchiveContents(archive, name, version, size, _description(archive, read), picture)


def _description(archive: Path, read: Read) -> Mapping[str, Any] | None:
    try:
        text = read(SPEC_FILE)
    except KeyError:
        return None
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ArchiveRefused(
            f"{archive} is damaged: its {SPEC_FILE} is not JSON text ({error}). Export the model "
            "again."
        ) from error
    if not isinstance(found, dict):
        raise ArchiveRefused(
            f"{archive} is damaged: its {SPEC_FILE} holds a {type(found).__name__}, expected an "
            "object. Export the model again."
        )
    return found


def _read_beside(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise KeyError(name) from None


def _no_archive_error(path: Path, error: Exception) -> ArchiveRefused:
    what = "a folder, and no unpacked archive" if path.is_dir() else "no model archive"
    why = "it has none" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
    return ArchiveRefused(
        f"{path} is {what}: expected a {MANIFEST} that names a model ({why}). Give a .mar file "
        "made by `d2serve export` or torch-model-archiver."
    )
