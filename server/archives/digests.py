"""A list of the archives that may be served, by their SHA-256, and the check against it.

A .mar is code, so whoever can write the model store runs code on the server. A list that is kept
where they cannot write prevents that. It has the format of ``sha256sum *.mar``: a digest, two
spaces, a file name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from d2serve.client.errors import ArchiveRefused, ServerStartError
from d2serve.handlers.digests import sha256_of_rest
from d2serve.server.archives.model_archives import ServedModel, check_models, prepare_store

# sha256sum marks binary mode by an asterisk, and names with odd characters by a backslash.
_LINE = re.compile(r"\\?(?P<digest>[0-9a-fA-F]{64}) [ *](?P<name>.+)")


@dataclass(frozen=True)
class DigestList:
    """The archives that may be served."""

    path: Path
    names: dict[str, str]
    """The file's name by its digest."""

    def require(self, archive: Path, digest: str) -> None:
        """Raise ArchiveRefused unless the digest is listed. Under which name does not matter: a
        listed archive may be renamed."""
        if digest in self.names:
            return
        listed = sorted(d for d, name in self.names.items() if Path(name).name == archive.name)
        if listed:
            reason = (
                f"it has sha256 {digest}, {self.path} lists {' or '.join(listed)} for that name"
            )
        else:
            reason = f"neither its sha256 {digest} nor its name is in {self.path}"
        raise ArchiveRefused(
            f"{archive} is not listed: {reason}. If you trust it, whoever keeps the list adds the "
            f"line that `sha256sum {archive.name}` prints; otherwise find out who changed it."
        )


def read_digests(path: Path) -> DigestList:
    """Read a list of digests.

    Raises:
        ServerStartError: it cannot be read, or has a line of another format.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ServerStartError(
            f"The list of digests {path} cannot be read ({reason}): make one with "
            "`sha256sum *.mar > digests.txt` where the archives are trusted."
        ) from error
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.rstrip())
        if found is None:
            raise ServerStartError(
                f"Line {number} of {path} is {line[:80]!r}, expected what `sha256sum FILE.mar` "
                "prints: 64 hexadecimal digits, two spaces, a file name."
            )
        names[found["digest"].lower()] = found["name"]
    return DigestList(path, names)


def checked_store(
    models: list[ServedModel], digests: DigestList | None, model_store: Path | None, private: Path
) -> tuple[list[ServedModel], Path]:
    """The models, checked, as they lie in the store that a server gets, and that store.

    Args:
        models: to serve.
        digests: None permits every archive. With a list, the store holds copies that are listed.
        model_store: of the user; None makes a store of links at ``private``.
        private: where a store may be made.

    Raises:
        ArchiveRefused: an archive is not listed, or cannot be served here.
    """
    if digests is None:
        models = check_models(models)
        return models, prepare_store(models, model_store, private)
    copy_listed(prepare_store(models, None, private), digests)
    copies = (replace(model, archive=private / model.archive.name) for model in models)
    return check_models(copies), private


def copy_listed(store: Path, digests: DigestList) -> None:
    """Put a listed copy in the place of every link in a private store.

    What is checked is the copy that is served: an archive that is replaced after the check, by
    whoever may write the store it comes from, changes nothing.

    Raises:
        ArchiveRefused: an archive is not listed.
    """
    for link in sorted(store.iterdir()):
        archive = link.resolve()
        copy = link.with_name(f"{link.name}.copy")
        with archive.open("rb") as source, copy.open("w+b") as target:
            for block in iter(lambda: source.read(1 << 20), b""):
                target.write(block)
            target.seek(0)
            digest = sha256_of_rest(target)
        digests.require(archive, digest)
        copy.replace(link)
