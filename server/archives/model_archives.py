"""Which archives to serve under which names, settled before Java starts: TorchServe only warns
about a missing .mar and then serves without it.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Union

from d2serve.client.archive_checks import check_archive
from d2serve.client.errors import ServerStartError

PathLike = Union[str, "os.PathLike[str]"]
ModelArguments = Union[Mapping[str, PathLike], Iterable[PathLike]]
"""``{"name": "file.mar"}``, or a list of ``"file.mar"`` and ``"name=file.mar"``."""

_ROOM_FOR_LOGS = 8 << 20


@dataclass(frozen=True)
class ServedModel:
    """An archive and the name it is to be registered under."""

    name: str
    archive: Path
    unpacked: int = 0
    """Bytes it takes unpacked, once it has been checked."""

    @property
    def argument(self) -> str:
        """For torchserve's --models; TorchServe looks for the file in the model store."""
        return f"{self.name}={self.archive.name}"


def resolve_models(models: ModelArguments, model_store: Path | None) -> list[ServedModel]:
    """Find every archive: as a path, else in the model store. Names come from the archive's
    manifest where none is given."""
    if isinstance(models, Mapping):
        pairs = [(name, os.fspath(archive)) for name, archive in models.items()]
    else:
        pairs = [_split(os.fspath(argument)) for argument in models]
    served = []
    for name, archive in pairs:
        path = _find(Path(archive), model_store)
        served.append(ServedModel(name or archived_name(path), path))
    for model in served:
        if any(sign in model.argument for sign in ", \t\n") or "=" in model.name:
            raise ServerStartError(
                f"TorchServe cannot take a model called {model.argument!r}: name and file must be "
                "without spaces, commas and equals signs. Rename the file."
            )
    return served


def checked(served: Iterable[ServedModel]) -> list[ServedModel]:
    """The same models, each of an archive that is whole and can be served here.

    Raises:
        ArchiveRefused: see check_archive.
    """
    models = list(served)
    unpacked = {archive: check_archive(archive) for archive in {m.archive for m in models}}
    return [replace(model, unpacked=unpacked[model.archive]) for model in models]


def require_room(served: Iterable[ServedModel], directory: Path) -> None:
    """Raise ServerStartError if the archives, unpacked, do not fit into the server's directory."""
    needed = sum(model.unpacked for model in served) + _ROOM_FOR_LOGS
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ServerStartError(
            f"The disk of {directory.parent} has {free >> 20} MB free and is too full: unpacked, "
            f"the models and the server's log take {needed >> 20} MB there. Free some space, or "
            "set TMPDIR to a folder with room."
        )


def archived_name(archive: Path) -> str:
    """The model's name in the manifest of a .mar file."""
    try:
        with zipfile.ZipFile(archive) as opened:
            manifest = json.loads(opened.read("MAR-INF/MANIFEST.json"))
        return str(manifest["model"]["modelName"])
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ServerStartError(
            f"{archive} is truncated or damaged, or no model archive "
            f"({error or type(error).__name__}): expected a .mar made by `d2serve export` or "
            "torch-model-archiver, a zip file with MAR-INF/MANIFEST.json. Copy it again, or "
            "export it again."
        ) from error


def prepare_store(served: list[ServedModel], model_store: Path | None, private: Path) -> Path:
    """The absolute model store that holds every archive.

    Without one given, it is made at ``private``, out of links to the archives.
    """
    if model_store is not None:
        store = model_store.resolve()
        for model in served:
            if model.archive.parent != store:
                raise ServerStartError(
                    f"{model.archive} is outside the model store {store}, and TorchServe loads "
                    "from there only. Move it there, or leave out the model store."
                )
        return store
    private.mkdir()
    for model in served:
        link = private / model.archive.name
        if link.is_symlink() and link.resolve() != model.archive.resolve():
            raise ServerStartError(
                f"Two archives are called {link.name}: TorchServe wants them in one folder. "
                "Rename one."
            )
        if not link.is_symlink():
            link.symlink_to(model.archive)
    return private


def _split(argument: str) -> tuple[str, str]:
    name, separator, archive = argument.partition("=")
    return (name, archive) if separator and not Path(argument).exists() else ("", argument)


def _find(archive: Path, model_store: Path | None) -> Path:
    candidates = [archive] if model_store is None else [model_store / archive, archive]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.parent.resolve() / candidate.name
    looked = " or ".join(str(candidate) for candidate in candidates)
    raise ServerStartError(
        f"There is no model archive {archive} (looked for {looked}). Make one with "
        "`d2serve export --config-file … --output model_store`, or correct the path."
    )
