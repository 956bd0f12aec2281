"""The archives that a command line names, and the name and version of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from d2serve.client.errors import ServerStartError
from d2serve.handlers.bundle import MANIFEST
from d2serve.server.archives.contents import read_contents
from d2serve.server.archives.model_archives import archives_of


@dataclass(frozen=True)
class Archive:
    """An archive, and under which name and version it is served."""

    path: Path
    name: str
    version: str


def find_archives(arguments: Sequence[str], name: str | None = None) -> list[Archive]:
    """The archives that arguments name, in their order.

    Args:
        arguments: each ``[NAME=]PATH`` of a .mar, of the folder that one was unpacked to, or of a
            folder with archives, as KServe's storage initializer leaves it.
        name: of the model, instead of the archive's own.

    Raises:
        ServerStartError: there are none, or two are the same version of one model.
        ArchiveRefused: one is missing, damaged or none.
    """
    paths = [each for argument in arguments for each in _named_paths(argument)]
    contents = [(own, read_contents(path)) for own, path in paths]
    if name is not None and len({each.name for _, each in contents}) > 1:
        raise ServerStartError(
            f"Got the one name {name} for several models, expected one model, or several versions "
            "of it. Give each a name of its own: NAME=FILE.mar."
        )
    found: dict[tuple[str, str], Archive] = {}
    for own, each in contents:
        archive = Archive(each.path.resolve(), own or name or each.name, each.version)
        first = found.setdefault((archive.name, archive.version), archive)
        if first.path != archive.path:
            raise ServerStartError(
                f"{first.path} and {archive.path} are both version {archive.version} of "
                f"{archive.name}. Give one of them another name (NAME={each.path.name}), or export "
                "it with another --version."
            )
    return list(found.values())


def _named_paths(argument: str) -> list[tuple[str, Path]]:
    name, separator, rest = argument.partition("=")
    if not separator or Path(argument).exists():
        name, rest = "", argument
    path = Path(rest)
    if not path.is_dir() or (path / MANIFEST).is_file():
        return [(name, path)]
    files = archives_of(path)
    if not files:
        raise ServerStartError(
            f"{path} has no .mar in it, expected an archive made by `d2serve export`, or a folder "
            "of such."
        )
    return [(name, path / file) for file in files]
