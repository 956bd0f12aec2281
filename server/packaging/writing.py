"""Writes what a platform wants to run an archive: a folder that is there whole, or not at all."""

from __future__ import annotations

import re
import shutil
import tarfile
import zipfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from string import Template

from d2serve.client.errors import ArchiveRefused, ClientError
from d2serve.client.own_handling import Handling, held_to, own_handling
from d2serve.client.whole_files import made_whole
from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.batching import BatchPlanner
from d2serve.server.archives.contents import ArchiveContents, read_contents
from d2serve.server.packaging.targets import TARGETS, Target
from d2serve.server.triton.repository import version_number

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Names that mean the same in a Dockerfile, in YAML and in a shell."""
_LIBRARY = "d2serve/"
_EXTRA = re.compile(r"""\s*(?:;|\band)\s*extra\s*==\s*["'](?P<extra>[\w-]+)["']$""")


class NotPackaged(ClientError):
    """The files cannot be written."""


def package(archive: Path, target: str, output: Path) -> tuple[Path, str]:
    """Write an archive, and the files with which a platform runs it, into a new folder.

    Args:
        archive: a .mar made by `d2serve export`.
        target: a name in ``TARGETS``.
        output: the folder in which NAME-TARGET is made; it is made too.

    Returns:
        The folder, and what to do with it.

    Raises:
        ArchiveRefused: it is no archive of `d2serve export`, or was damaged.
        NotPackaged: the folder is there already, or cannot be written.
    """
    wanted = TARGETS[target]
    contents = read_contents(archive, whole=True)
    handling = _handling(contents)
    values = _values(contents, handling)
    folder = output / f"{contents.name}-{target}"
    if folder.exists():
        raise NotPackaged(
            f"{folder} is there already, and nothing is overwritten. Remove it, or name another "
            "folder with --output."
        )
    try:
        with made_whole(folder, output) as made:
            _write(wanted, contents, handling, values, made)
    except OSError as error:
        raise NotPackaged(
            f"{folder} cannot be written ({error.strerror or error}). Expected a folder with room "
            "that you may write; name another one with --output."
        ) from error
    return folder, Template(wanted.next_steps).substitute(values)


def _write(
    target: Target,
    contents: ArchiveContents,
    handling: Handling,
    values: dict[str, str],
    folder: Path,
) -> None:
    archive = contents.path
    copy = folder / Template(target.archive).substitute(values)
    copy.parent.mkdir(parents=True, exist_ok=True)
    if copy.name.endswith(".tar.gz"):
        with tarfile.open(copy, "w:gz") as packed:
            packed.add(archive, values["file"], filter=_of_nobody)
    else:
        shutil.copyfile(archive, copy)
    if target.library is not None:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if name.startswith(_LIBRARY)]
            opened.extractall(folder / Template(target.library).substitute(values), names)
    for package_name in target.installed:
        _copy_modules(package_name, folder / target.below)
    for template, name in target.templates():
        text = Template(template.read_text(encoding="utf-8")).substitute(values)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    if target.more is not None:
        more = target.more(contents.spec(), contents.name, contents.version, handling)
        for name, text in more.items():
            (folder / name).write_text(text, encoding="utf-8")

    if target.packed is not None:
        _pack(folder, target.packed)


def _copy_modules(name: str, folder: Path) -> None:
    """Copy the modules of an installed package, which need not be importable here, and what makes
    packages of those that it lies in: before an installed d2serve the copy has to win."""
    found = find_spec(name)
    assert found is not None  # they are d2serve's own
    assert found.submodule_search_locations
    source = Path(found.submodule_search_locations[0])
    root, outer = source.parents[len(name.split(".")) - 2], source.parent
    modules = [*source.rglob("*.py"), *([] if outer == root else [outer / "__init__.py"])]
    for module in sorted(modules):
        copy = folder / "d2serve" / module.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, copy)


def _pack(folder: Path, name: str) -> None:
    """Put all that a folder has into a tar file of it, in its place."""
    there = sorted(folder.iterdir())
    with tarfile.open(folder / name, "w:gz") as packed:
        for each in there:
            packed.add(each, each.name, filter=_of_nobody)
    for each in there:
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()


def _handling(contents: ArchiveContents) -> Handling:
    """How the archive wants to be opened; what cannot be is refused here, and not where it runs."""
    handling = own_handling(contents.path)
    try:
        spec = held_to(contents.spec(), handling)
        BatchPlanner(handling.get("batching", "auto"), spec.dynamic_batch, False)
    except LoadError as error:
        raise ArchiveRefused(f"{contents.path}: {error}") from error
    return handling


def _values(contents: ArchiveContents, handling: Handling) -> dict[str, str]:
    """What the templates may name."""
    spec = contents.spec()
    file = contents.path.name
    for what, name in (("model", contents.name), ("version", contents.version), ("file", file)):
        if not _PLAIN.fullmatch(name):
            raise ArchiveRefused(
                f"{contents.path} has the {what} {name!r}, expected ASCII letters, digits, points, "
                "underscores and hyphens, which need no quotes in a Dockerfile or in YAML. Export "
                "it under such a name, or rename the file."
            )
    return {
        "name": contents.name,
        "dns_name": _dns_name(contents.name),
        "version": contents.version,
        "number": version_number(contents.version),
        "file": file,
        "runtime": spec.runtime,
        "handling": repr(dict(handling)),
        "requirements": "\n".join(requirements("serve", spec.runtime)),
    }


def _dns_name(name: str) -> str:
    """A name as Kubernetes and registries take it: RFC 1123, section 2.1; 40 characters leave room
    for what is appended to it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-")


def requirements(*extras: str) -> list[str]:
    """What extras of the installed d2serve need.

    Raises:
        NotPackaged: d2serve runs from sources that are not installed.
    """
    try:
        declared = metadata.requires("d2serve") or []
    except metadata.PackageNotFoundError:
        raise NotPackaged(
            "d2serve runs from sources that are not installed, so what its extras need is not "
            "known: pip install it first."
        ) from None
    found = ((_EXTRA.search(line), line) for line in declared)
    return [line[: extra.start()] for extra, line in found if extra and extra["extra"] in extras]


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the name and the number of whoever packs."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member
