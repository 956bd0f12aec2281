"""Why: of an archive that is damaged, or not for this server, TorchServe says at best that a worker
died, a minute later and in a log. What can be known beforehand is said before Java starts.

The handler inside the archive checks its program and spec once more when a worker loads it, for
servers that are started in another way.
"""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
import zlib
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO, Any

from d2serve.client.errors import ArchiveRefused
from d2serve.handlers.errors import SpecError
from d2serve.handlers.spec.model_spec import SCHEMA_VERSION, SPEC_FILE, ModelSpec
from d2serve.handlers.spec.runtimes import TORCHSCRIPT

_LIBRARY = "d2serve/handlers/"
_BLOCK = 1 << 20


def check_archive(archive: Path) -> int:
    """Read all of a .mar and see that it is whole and can be served here.

    Archives of other makers than `d2serve export` need only be whole.

    Returns:
        The bytes it takes when it is unpacked.

    Raises:
        ArchiveRefused: says what is wrong with it, and what to do.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            _check_entries(archive, opened)
            hashes = {entry.filename: _sha256(opened, entry) for entry in opened.infolist()}
            unpacked = sum(entry.file_size for entry in opened.infolist())
            spec = opened.read(SPEC_FILE) if SPEC_FILE in hashes else None
    # Besides its own error, zipfile lets through what it meets in damaged headers.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArchiveRefused(
            f"{archive} is truncated or damaged ({error or type(error).__name__}): expected a .mar "
            "made by `d2serve export`, a zip file. Copy it again, or export it again."
        ) from error
    except OSError as error:
        raise ArchiveRefused(
            f"{archive} cannot be read ({error.strerror or error}): expected a .mar that you may "
            "read. Correct the path or its permissions."
        ) from error
    if spec is not None:
        _check_spec(archive, spec, hashes)
    elif any(name.startswith(_LIBRARY) for name in hashes):
        raise ArchiveRefused(
            f"{archive} has d2serve's library but no {SPEC_FILE}: it was changed or damaged. "
            "Export it again."
        )
    return unpacked


def _check_entries(archive: Path, opened: zipfile.ZipFile) -> None:
    names = [entry.filename for entry in opened.infolist()]
    outside = [name for name in names if _is_outside(name)]
    links = [e.filename for e in opened.infolist() if stat.S_ISLNK(e.external_attr >> 16)]
    twice = sorted({name for name in names if names.count(name) > 1})
    for found, what in (
        (outside, "has entries outside itself"),
        (links, "has symbolic links"),
        (twice, "has several entries of one name"),
    ):
        if found:
            raise ArchiveRefused(
                f"{archive} {what} ({', '.join(found[:3])}), which no exporter writes: somebody "
                "made it to harm. Do not use it, and find out where it comes from."
            )


def _is_outside(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or ":" in path.parts[:1]


def _sha256(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    with opened.open(entry) as file:  # which compares the zip's own check sum as well
        return sha256_of(file)


def sha256_of(file: IO[bytes]) -> str:
    """SHA-256 of the rest of an open file, in hexadecimal."""
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(_BLOCK), b""):
        digest.update(block)
    return digest.hexdigest()


def _check_spec(archive: Path, text: bytes, hashes: dict[str, str]) -> None:
    raw = _json_object(archive, text)
    version = raw.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ArchiveRefused(
            f"{archive} was made by a newer d2serve: its {SPEC_FILE} has schema_version {version}, "
            f"this one knows up to {SCHEMA_VERSION}. Upgrade d2serve on this machine."
        )
    if version == SCHEMA_VERSION:  # the library inside an older archive reads its own
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
    if raw.get("runtime") == TORCHSCRIPT:
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
