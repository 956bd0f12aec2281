"""Puts a YAML config together with the files that its ``_BASE_`` names, as fvcore does."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from detectron2 import model_zoo
from detectron2.utils.file_io import PathManager

from d2serve.export.errors import ConfigError, one_line
from d2serve.export.reading.config_files.documents import read_document

_BASE = "_BASE_"
_ADDRESSES = ("/", "https://", "http://")


def with_bases(path: str, document: dict[str, Any]) -> dict[str, Any]:
    """A config with what it inherits: its own values win, later bases win over earlier ones.

    Args:
        path: where the document was read, to which its bases are relative.
        document: its content.

    Raises:
        ConfigError: a base is missing, cannot be read, leads back to itself, or does not fit.
    """
    return _merged(path, document, (path,))


def _merged(path: str, document: dict[str, Any], way: tuple[str, ...]) -> dict[str, Any]:
    if _BASE not in document:
        return document
    own = dict(document)
    named = own.pop(_BASE)
    bases = named if isinstance(named, (list, tuple)) else [named]
    inherited: dict[str, Any] = {}
    for base in bases:
        if not isinstance(base, str) or not base:
            raise ConfigError(
                f"{path}: {_BASE} is {base!r}, expected the path of a YAML config, or several."
            )
        _inherit(_read(path, base, way), inherited, path)
    _inherit(own, inherited, path)
    return inherited


def _read(path: str, base: str, way: tuple[str, ...]) -> dict[str, Any]:
    place = str(Path(base).expanduser()) if base.startswith("~") else base
    if not place.startswith(_ADDRESSES) and "://" not in place:
        folder = path.rpartition("/")[0]
        place = f"{folder}/{place}" if folder else place
    if "://" not in place:
        place = str(Path(place))
        if Path(place).resolve() in (Path(each).resolve() for each in way):
            shown = " -> ".join((*way, place))
            raise ConfigError(
                f"{path}: its {_BASE} leads back to itself ({shown}), expected a file that does "
                f"not name it again. Take the {_BASE} line out of one of them."
            )
    elif place in way:
        raise ConfigError(f"{path}: its {_BASE} {place} leads back to itself.")
    try:
        is_there = PathManager.isfile(place)
    except Exception as error:  # of an address that cannot be reached
        raise ConfigError(
            f"{path}: its {_BASE} {place} cannot be fetched ({one_line(error, 200)}). Fetch it "
            f"yourself and name the file in {_BASE}."
        ) from error
    if not is_there:
        raise ConfigError(
            f"{path}: its {_BASE} {base} is not there: no file {place}. {_zoo_advice(base)}"
        )
    return _merged(place, read_document(place), (*way, place))


def _zoo_advice(base: str) -> str:
    """Where the zoo has a file of that name, as configs that were copied out of it need."""
    name = PurePosixPath(base).name
    for known in (name, *("/".join(PurePosixPath(base).parts[-2:]),)):
        try:
            found = model_zoo.get_config_file(known)
        except RuntimeError:
            continue
        return f"detectron2's model zoo has one of that name: write {_BASE}: {found}"
    return (
        f"Put it there, write its full path, or take {_BASE} out and give the config.yaml that "
        "training wrote, which needs none."
    )


def _inherit(own: dict[str, Any], into: dict[str, Any], path: str) -> None:
    for key, value in own.items():
        if isinstance(value, dict) and key in into:
            if not isinstance(into[key], dict):
                raise ConfigError(
                    f"{path}: {key} has keys below it, but is {into[key]!r} in its {_BASE}. "
                    "Expected the same kind in both."
                )
            _inherit(value, into[key], path)
        else:
            into[key] = value
