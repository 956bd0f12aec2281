"""Checks a .mar before anything of it is loaded: that it is whole, harmless and for this machine.

Of an archive that is damaged, or not for this server, TorchServe says at best that a worker died, a
minute later and in a log. `d2serve serve`, `verify`, `inspect`, the management client and
``Detector.open`` all ask here first. The handler inside the archive checks its program and spec
once more when a worker loads it, for servers that are started in another way.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from d2serve.handlers.digests import sha256_of_rest
from d2serve.handlers.errors import ArchiveRefused, SpecError
from d2serve.handlers.spec.model_spec import (
    READABLE_SCHEMAS,
    SCHEMA_VERSION,
    SPEC_FILE,
    ModelSpec,
)
from d2serve.handlers.spec.runtimes import RUNTIMES
from d2serve.handlers.zip_directory import is_zip, too_many_entries, traps

_LIBRARY = "d2serve/handlers/"
_MOST_BYTES_OF_A_SPEC = 64 << 20
# Besides its own error, zipfile lets through what it meets in damaged headers.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def check_archive(archive: Path) -> int:
    """Read all of a .mar and see that it is whole and can be served here.

    Archives of other makers than `d2serve export` need only be whole.

    Returns:
        The bytes it takes when it is unpacked.

    Raises:
        ArchiveRefused: says what is wrong with it, and what to do.
    """
    with opened_archive(archive) as opened:
        entries = opened.infolist()
        hashes = {entry.filename: _sha256(opened, entry) for entry in entries}
        text = read_spec_text(archive, opened)
    if text is not None:
        _check_spec(archive, text, hashes)
    elif any(name.startswith(_LIBRARY) for name in hashes):
        raise ArchiveRefused(
            f"{archive} has d2serve's library but no {SPEC_FILE}: it was changed or damaged. "
            "Export it again."
        )
    return sum(entry.file_size for entry in entries)


@contextmanager
def opened_archive(archive: Path) -> Iterator[zipfile.ZipFile]:
    """A .mar, opened once its list of entries has been found harmless.

    Raises:
        ArchiveRefused: it is no archive, cannot be read, is damaged, or was made to harm. Damage
            that is met within the context is reported in this way as well.
    """
    try:
        with archive.open("rb") as file:
            if not is_zip(file):
                file.seek(0)
                raise ArchiveRefused(
                    f"{archive} is no archive: it begins with {file.read(8)!r}, and a .mar "
                    "is a zip file. Give the file that `d2serve export` wrote."
                )
            _refuse_harm(archive, too_many_entries(file))
            with zipfile.ZipFile(file) as opened:
                _refuse_harm(archive, traps(opened.infolist(), archive.stat().st_size))
                yield opened
    except _DAMAGED as error:
        raise ArchiveRefused(
            f"{archive} is truncated or damaged, or no model archive "
            f"({error or type(error).__name__}): expected a .mar made by `d2serve export`, a zip "
            "file. Copy it again, or export it again."
        ) from error
    except FileNotFoundError:
        raise ArchiveRefused(
            f"There is no {archive}: expected a .mar made by `d2serve export`. Correct the path; "
            "`d2serve list` shows the archives of a model store."
        ) from None
    except OSError as error:
        raise ArchiveRefused(
            f"{archive} cannot be read ({error.strerror or error}): expected a .mar that you may "
            "read. Correct the path or its permissions."
        ) from error


def read_spec_text(archive: Path, opened: zipfile.ZipFile) -> bytes | None:
    """The bytes of model_spec.json; None where an archive of another maker has none.

    Raises:
        ArchiveRefused: it is larger than any spec.
    """
    try:
        entry = opened.getinfo(SPEC_FILE)
    except KeyError:
        return None
    if entry.file_size > _MOST_BYTES_OF_A_SPEC:
        raise ArchiveRefused(
            f"{archive} has a {SPEC_FILE} of {entry.file_size >> 20:,} MB, which no exporter "
            "writes. Do not use it, and find out where it comes from."
        )
    return opened.read(entry)


def _refuse_harm(archive: Path, trap: str | None) -> None:
    if trap is not None:
        raise ArchiveRefused(
            f"{archive} {trap}, which no exporter writes: somebody made it to harm. Do not use it, "
            "and find out where it comes from."
        )


def _sha256(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    with opened.open(entry) as file:  # which compares the zip's own check sum as well
        return sha256_of_rest(file)


def _check_spec(archive: Path, text: bytes, hashes: dict[str, str]) -> None:
    raw = _json_object(archive, text)
    version = raw.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ArchiveRefused(
            f"{archive} was made by a newer d2serve: its {SPEC_FILE} has schema_version {version}, "
            f"this one knows up to {SCHEMA_VERSION}. Upgrade d2serve on this machine."
        )
    if version in READABLE_SCHEMAS:  # the library inside an older archive reads its own
        try:
            ModelSpec.from_json(text.decode("utf-8", "replace"))
        except SpecError as error:
            raise ArchiveRefused(f"{archive} cannot be served: {error}") from error
    expected = raw.get("sha256")
    for name, digest in (expected if isinstance(expected, dict) else {}).items():
        if hashes.get(name) != digest:
            got = f"sha256 {hashes[name][:12]}..." if name in hashes else "no such file"
            raise ArchiveRefused(
                f"{archive}: {name} does not match its sha256 (expected {str(digest)[:12]}..., got "
                f"{got}). The archive was changed or damaged: export it again."
            )
    runtime = RUNTIMES.get(str(raw.get("runtime")))
    if runtime is not None and runtime.needs_torch:
        _check_torch(archive, raw.get("versions"))


def _json_object(archive: Path, text: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ArchiveRefused(
            f"{archive} cannot be served: its {SPEC_FILE} is not JSON ({error}). Export it again."
        ) from error
    return raw if isinstance(raw, dict) else {}


def _check_torch(archive: Path, versions: object) -> None:
    exported_with = str(versions.get("torch", "")) if isinstance(versions, dict) else ""
    try:
        installed = metadata.version("torch")
    except metadata.PackageNotFoundError:
        raise ArchiveRefused(
            f"{archive} is a TorchScript program, and torch is not installed here: "
            "`pip install 'd2serve[torchscript]'`, or export with --format onnx."
        ) from None
    if exported_with and exported_with.split(".")[0] != installed.split(".")[0]:
        raise ArchiveRefused(
            f"{archive} was exported with torch {exported_with}, here is torch {installed}: a "
            "program need not run with another major version. Install that version, or export the "
            "model again with this one."
        )
