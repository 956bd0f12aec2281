"""The archive of the new version: read, and brought to where the server loads archives from."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from d2serve.client.archive_checks import check_archive
from d2serve.client.errors import ArchiveRefused, ClientError
from d2serve.client.model_descriptions import ModelDescription
from d2serve.client.whole_files import copied_whole
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.server.archives.contents import read_contents
from d2serve.server.archives.model_archives import STORE_NAME
from d2serve.server.archives.own_settings import NUMBERS, own_settings, own_workers

_SPLIT_BY_TORCHSERVE = ", \t\n="


class NotBrought(ClientError):
    """The archive cannot be put where the server would load it from."""


@dataclass(frozen=True)
class Newcomer:
    """An archive, checked."""

    archive: Path
    version: str
    spec: ModelSpec | None
    """None of an archive that `d2serve export` did not make."""
    own: Mapping[str, int]
    """What its model-config.yaml sets."""

    @property
    def workers(self) -> tuple[int, int] | None:
        """Fewest and most workers that it insists on, or None."""
        return own_workers(self.own)

    def batching(self, old: ModelDescription, old_archive: Path | None) -> dict[str, int]:
        """How it is to be registered, beside what it brings itself: as the old version is.

        What somebody had set for the old one otherwise than its archive says is kept; the rest is
        left to the new archive.
        """
        before = None if old_archive is None else own_settings(old_archive)
        kept: dict[str, int] = {}
        for name in ("batch_size", "max_batch_delay", "response_timeout"):
            key, served = NUMBERS[name], int(old.raw[NUMBERS[name]])
            by_the_archive = before is not None and before.get(key) == served
            anew = before is not None and key not in before and key in self.own
            if not by_the_archive and not anew:
                kept[name] = served
        return kept


def read_newcomer(archive: Path) -> Newcomer:
    """Check an archive and read what decides how it is served.

    Raises:
        ArchiveRefused: it is damaged, or cannot be served here.
    """
    contents = read_contents(archive, whole=True)
    check_archive(archive)
    spec = None if contents.description is None else contents.spec()
    return Newcomer(archive, contents.version, spec, own_settings(archive))


def store_beside(key_file: Path | None) -> Path | None:
    """The model store of a server that `d2serve serve` started here, by its key file; None of any
    other server."""
    if key_file is None:
        return None
    store = key_file.resolve().parent / STORE_NAME
    return store if store.is_dir() else None


def find_archive(given: Path, store: Path | None) -> Path:
    """A file, or one of the server's store.

    Raises:
        ArchiveRefused: it is neither.
    """
    for candidate in (given, *([] if store is None else [store / given])):
        if candidate.is_file():
            return candidate.parent.resolve() / candidate.name
    looked = "" if store is None else f" (looked for {given} and {store / given})"
    raise ArchiveRefused(
        f"There is no archive {given}{looked}: expected a .mar file that `d2serve export` made, "
        "as a path or as a file of the server's model store."
    )


@contextmanager
def brought(newcomer: Newcomer, name: str, store: Path | None) -> Iterator[str]:
    """The archive in the server's store, as the name under which it is registered. Where it was
    put there for this, it is taken out again if what follows fails.

    Args:
        newcomer: the archive.
        name: of the model.
        store: None where it is not known: the archive is then in it already, or TorchServe says
            that it is not.

    Raises:
        NotBrought: other archives have its names there, or the store cannot be written.
    """
    archive = newcomer.archive
    if store is None or _same_folder(archive.parent, store):
        _require_plain(archive.name)
        yield archive.name
        return
    target = _place(newcomer, name, store)
    is_there = target.exists()
    if not is_there:
        _put(archive, target, is_link=not store.is_symlink() and store.name == STORE_NAME)
    try:
        yield target.name
    except BaseException:
        if not is_there:
            with suppress(OSError):
                target.unlink()
        raise


def _place(newcomer: Newcomer, name: str, store: Path) -> Path:
    archive = newcomer.archive
    names = dict.fromkeys((archive.name, f"{name}-{newcomer.version}.mar"))
    plain = [each for each in names if not any(sign in each for sign in _SPLIT_BY_TORCHSERVE)]
    for each in plain:
        target = store / each
        if not os.path.lexists(target):
            return target
        if target.is_file() and filecmp.cmp(archive, target, shallow=False):
            return target
    raise NotBrought(
        f"{archive} cannot be put into the server's model store {store.resolve()}: other archives "
        f"there are called {' and '.join(names)}. Rename {archive.name}, or remove what is not "
        "served any more."
    )


def _put(archive: Path, target: Path, is_link: bool) -> None:
    """As a link into a store of links, which ends with its server; otherwise as a copy, which is
    there whole or not at all."""
    try:
        if is_link:
            target.symlink_to(archive)
        else:
            copied_whole(archive, target)
    except OSError as error:
        raise NotBrought(
            f"{archive} cannot be put into the server's model store {target.parent.resolve()} "
            f"({error.strerror or error}). Copy it there as somebody who may write it, and give "
            "its name there."
        ) from error


def _require_plain(file_name: str) -> None:
    if any(sign in file_name for sign in _SPLIT_BY_TORCHSERVE):
        raise ArchiveRefused(
            f"TorchServe cannot be started with an archive called {file_name!r}: its name must be "
            "without spaces, commas and equals signs. Rename the file."
        )


def _same_folder(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
