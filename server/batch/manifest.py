"""What results were made of: a file beside them, so that nothing else is ever added to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.server.batch.columns import Options
from d2serve.server.batch.errors import BatchRefused
from d2serve.server.batch.folder import Folder
from d2serve.server.images.listing import RESULTS_FILE
from d2serve.server.images.stored import is_address

_FORMAT = 1
_SHOWN = {
    "images": "IMAGES",
    "beside": "the folder in which the command runs",
    "model": "the model",
    "version": "the model's version",
    "archive": "the archive (SHA-256 of its model_spec.json)",
    "options": "the options of the requests",
}


@dataclass(frozen=True)
class Manifest:
    """What decides over the rows."""

    images: str
    """The argument by which they are found."""
    beside: str | None
    """The folder that a relative path starts from; None of others."""
    model: str
    version: str
    archive: str
    """SHA-256 of its model_spec.json, which has those of the program's files."""
    options: Options
    format: int = _FORMAT

    @staticmethod
    def of(images: str, spec: ModelSpec, version: str, options: Options) -> Manifest:
        """That of a job."""
        plain = images.lstrip("@")
        is_relative = not is_address(plain) and not Path(plain).is_absolute()
        beside = str(Path.cwd()) if is_relative else None
        digest = hashlib.sha256(spec.to_json().encode()).hexdigest()
        return Manifest(images, beside, spec.name, version, digest, dict(options))


def begin(folder: Folder, manifest: Manifest) -> None:
    """Write the manifest into a new folder, or find that of the same job there.

    Raises:
        BatchRefused: the folder has other results, or other parquet files.
    """
    names = folder.names()
    if RESULTS_FILE in names:
        _compare(folder, manifest)
        return
    strangers = [name for name in names if name.endswith(".parquet")]
    if strangers:
        raise BatchRefused(
            f"{folder.where} has {strangers[0]}, and no {RESULTS_FILE}: expected a new folder, or "
            "one that this command began. Name another one with --output."
        )
    text = json.dumps(asdict(manifest), indent=2) + "\n"
    folder.write(RESULTS_FILE, text.encode())


def _compare(folder: Folder, manifest: Manifest) -> None:
    found = _read(folder)
    if found.get("format") != _FORMAT:
        raise BatchRefused(
            f"{folder.path(RESULTS_FILE)} is of format {found.get('format')!r}, expected "
            f"{_FORMAT}: it was written by another version of d2serve, or changed. Name another "
            "folder with --output."
        )
    wanted = json.loads(json.dumps(asdict(manifest)))
    other = [
        f"{what} was {json.dumps(found.get(name))} and is {json.dumps(wanted[name])}"
        for name, what in _SHOWN.items()
        if found.get(name) != wanted[name]
    ]
    if other:
        raise BatchRefused(
            f"{folder.where} has results of another job: {'; '.join(other)}. Repeat the command "
            "that began them to go on with them, or name another folder with --output."
        )


def _read(folder: Folder) -> Mapping[str, Any]:
    try:
        found = json.loads(folder.read(RESULTS_FILE))
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}
