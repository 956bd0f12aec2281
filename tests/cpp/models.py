"""Archives whose program nothing runs: for what is looked at before."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

from d2serve.handlers.spec.model_spec import SPEC_FILE, ModelSpec

PROGRAM = b"no program at all, " * 100
MANIFEST = json.dumps({"model": {"modelName": "squares", "modelVersion": "2.0"}})


def files_of(spec: ModelSpec) -> dict[str, bytes]:
    """The files of an archive, by name, with the hash that is right."""
    spec = replace(spec, sha256={spec.program: hashlib.sha256(PROGRAM).hexdigest()})
    return {
        SPEC_FILE: spec.to_json().encode(),
        spec.program: PROGRAM,
        "MAR-INF/MANIFEST.json": MANIFEST.encode(),
    }


def folder_of(spec: ModelSpec, folder: Path) -> Path:
    """An archive that was extracted."""
    for name, data in files_of(spec).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def archive_of(files: dict[str, bytes], archive: Path, packing: int = zipfile.ZIP_DEFLATED) -> Path:
    """A .mar of some files."""
    with zipfile.ZipFile(archive, "w", packing) as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return archive
