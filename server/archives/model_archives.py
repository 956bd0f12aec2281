"""The archives that a server is to serve, with their names and versions.

They are found and checked before Java starts, since TorchServe only warns of a missing or damaged
.mar and then serves without it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Union

from d2serve.client.archive_checks import check_archive
from d2serve.client.errors import ServerStartError
from d2serve.server.archives.contents import ArchiveContents, read_contents

PathLike = Union[str, "os.PathLike[str]"]
ModelArguments = Union[Mapping[str, PathLike], Iterable[PathLike]]
"""``{"name": "file.mar"}``, or a list of ``"file.mar"`` and ``"name=file.mar"``."""

STORE_NAME = "models"
"""In a server's private directory: its model store, or the link to the user's."""

_ROOM_FOR_LOGS = 8 << 20


@dataclass(frozen=True)
class ServedModel:
    """An archive and the name it is to be registered under."""

    name: str
    archive: Path
    version: str = ""
    """In the archive's manifest, once it has been checked."""
    unpacked_bytes: int = 0
    """Bytes it takes unpacked, once it has been checked."""

    @property
    def argument(self) -> str:
        """For torchserve's --models; TorchServe looks for the file in the model store."""
        return f"{self.name}={self.archive.name}"


def resolve_models(models: ModelArguments, model_store: Path | None) -> list[ServedModel]:
    """Find every archive, in the model store or as a path.

    Names come from the archive's manifest where none is given. Of several versions of a model, the
    first one given is the one that TorchServe asks where a request names none.

    Raises:
        ServerStartError: there is no such archive, or TorchServe cannot take its name.
    """
    if isinstance(models, Mapping):
        pairs = [(name, os.fspath(archive)) for name, archive in models.items()]
    else:
        pairs = [_split(os.fspath(argument)) for argument in models]
    found = [(name, _find(Path(archive), model_store)) for name, archive in pairs]
    named = (ServedModel(name or read_contents(path).name, path) for name, path in found)
    served = list(dict.fromkeys(named))
    for model in served:
        if any(sign in model.argument for sign in ", \t\n") or "=" in model.name:
            raise ServerStartError(
                f"TorchServe cannot take a model called {model.argument!r}: name and file must be "
                "without spaces, commas and equals signs. Rename the file."
            )
    return served


def archives_of(store: Path) -> list[str]:
    """The file names of all archives of a model store, by name and version: the lowest version of
    a model comes first, and is the one that answers where a request names none.

    Raises:
        ArchiveRefused: a .mar file there is damaged or no archive.
    """
    contents = sorted(
        (read_contents(file) for file in store.glob("*.mar")), key=ArchiveContents.order
    )
    return [each.path.name for each in contents]


def check_models(served: Iterable[ServedModel]) -> list[ServedModel]:
    """The same models, each of an archive that is whole and can be served here.

    Raises:
        ArchiveRefused: see check_archive.
        ServerStartError: two archives are the same version of one model.
    """
    models = list(served)
    unpacked = {archive: check_archive(archive) for archive in {m.archive for m in models}}
    versions = {archive: read_contents(archive).version for archive in unpacked}
    known = [
        replace(model, version=versions[model.archive], unpacked_bytes=unpacked[model.archive])
        for model in models
    ]
    _require_different(known)
    return known


def require_room(served: Iterable[ServedModel], directory: Path) -> None:
    """Raise ServerStartError if the archives, unpacked, do not fit into the server's directory."""
    needed = sum(model.unpacked_bytes for model in served) + _ROOM_FOR_LOGS
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ServerStartError(
            f"The disk of {directory.parent} has {free >> 20} MB free and is too full: unpacked, "
            f"the models and the server's log take {needed >> 20} MB there. Free some space, or "
            "set TMPDIR to a folder with room."
        )


def _require_different(served: Iterable[ServedModel]) -> None:
    seen: dict[tuple[str, str], Path] = {}
    for model in served:
        first = seen.setdefault((model.name, model.version), model.archive)
        if first != model.archive:
            raise ServerStartError(
                f"{first.name} and {model.archive.name} are both version {model.version} of "
                f"{model.name}, of which TorchServe would serve one. Give one of them another "
                f"name (NAME={model.archive.name}), or export it with another --version."
            )


def prepare_store(served: list[ServedModel], model_store: Path | None, private: Path) -> Path:
    """The absolute model store that holds every archive.

    Without one given, it is made at ``private``, out of links to the archives. With one, that is a
    link to it, so that a server's directory always says where its store is.
    """
    if model_store is not None:
        store = model_store.resolve()
        for model in served:
            if model.archive.parent != store:
                raise ServerStartError(
                    f"{model.archive} is outside the model store {store}, and TorchServe loads "
                    "from there only. Move it there, or leave out the model store."
                )
        private.symlink_to(store)
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
