"""Merges what a file says into detectron2's config, and keeps the keys that are not known there.

detectron2 refuses a config for one key that it does not know, so one with keys of a training script
or of another version of detectron2 cannot be read again. Such keys are kept as they stand: code
of the user's own that reads them finds them, and nothing else asks.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from detectron2.config import CfgNode, downgrade_config, upgrade_config

from d2serve.export.errors import ConfigError, one_line

# How yacs says that a value is of another type than the default.
_WRONG_TYPE = re.compile(
    r"Type mismatch \(<class '(?P<wanted>[\w.]+)'> vs\. <class '(?P<got>[\w.]+)'>\) with values "
    r"\((?P<values>.*)\) for config key: (?P<key>\S+)",
    re.DOTALL,
)
_OLD_KEYS = (("MODEL", "WEIGHT"), ("TEST", "AUG_ON"))  # of detectron2's configs of version 1
_HOW_TO_WRITE = {
    "tuple": 'a list: ["a", "b"]',
    "list": "a list: [1, 2]",
    "float": "a number with a point: 1.0",
    "int": "a whole number: 1",
    "bool": "True or False",
    "str": "a text",
}


def merge(cfg: CfgNode, content: Mapping[str, Any], named: str) -> tuple[str, ...]:
    """Merge a file's content into a config, in place, and convert it where it is of an old version.

    Args:
        cfg: with the keys of detectron2 and of imported projects.
        content: of the file.
        named: the file, for messages.

    Returns:
        The keys that the config did not know, such as ``DATASETS.VAL``.

    Raises:
        ConfigError: a value is of a wrong type.
    """
    version = content.get("VERSION") or _guessed_version(content, cfg.VERSION)
    if not isinstance(version, int) or not 0 < version <= cfg.VERSION:
        raise ConfigError(
            f"{named} has VERSION {version!r}, expected 1 to {cfg.VERSION}: configs of a later "
            "version need a newer detectron2."
        )
    # An old config is merged into one with the keys of its time, and then brought up to date.
    target = cfg if version == cfg.VERSION else downgrade_config(cfg, to_version=version)
    unknown = tuple(_unknown(content, target))
    target.set_new_allowed(True)
    try:
        target.merge_from_other_cfg(CfgNode(_of_yacs(content)))
    except Exception as error:  # yacs raises KeyError, ValueError, AssertionError
        raise ConfigError(f"{named}: {why_not_merged(error)}") from error
    target.set_new_allowed(False)
    for key in unknown:
        _make_plain(target, key)
    if target is not cfg:
        upgraded = upgrade_config(target)
        cfg.clear()
        cfg.update(upgraded)
    return unknown


def why_not_merged(error: Exception) -> str:
    """What yacs has against a value, in a sentence that names the key and what to write."""
    mismatch = _WRONG_TYPE.search(str(error))
    if mismatch is None:
        return f"a value does not fit detectron2's config ({one_line(error)})."
    wanted = mismatch["wanted"].rpartition(".")[2]
    default, _, got = mismatch["values"].rpartition(" vs. ")
    if wanted == "CfgNode":
        return f"{mismatch['key']} is {_short(got)}, expected keys with values below it."
    return (
        f"{mismatch['key']} is {_short(got)} ({mismatch['got'].rpartition('.')[2]}), expected "
        f"{wanted}, as its default {_short(default)}. Write {_HOW_TO_WRITE.get(wanted, wanted)}."
    )


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:80]}..."


def _of_yacs(value: Any) -> Any:
    """A value in the types that yacs knows; any other, such as a date, as its text."""
    if isinstance(value, Mapping):
        return {str(key): _of_yacs(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_of_yacs(each) for each in value)
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def nearest(key: str, cfg: CfgNode) -> str | None:
    """The known key for which another is probably a misspelling, or None."""
    parent, _, leaf = key.rpartition(".")
    holder: Any = cfg
    for part in parent.split(".") if parent else ():
        holder = holder.get(part) if isinstance(holder, dict) else None
    others = [each for each in holder if each != leaf] if isinstance(holder, dict) else []
    found = difflib.get_close_matches(leaf, others, 1, cutoff=0.85)
    return f"{parent}.{found[0]}".lstrip(".") if found else None


def _unknown(content: Mapping[str, Any], cfg: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, value in content.items():
        name = f"{path}{key}"
        if key not in cfg:
            yield from _leaves(value, name)
        elif isinstance(value, Mapping) and isinstance(cfg[key], Mapping):
            yield from _unknown(value, cfg[key], f"{name}.")


def _leaves(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _leaves(each, f"{name}.{key}")
    else:
        yield name


def _make_plain(cfg: CfgNode, key: str) -> None:
    """Make text of an unknown value that yacs could not write: it takes "{1, 2}" for a set."""
    *parents, leaf = key.split(".")
    holder: Any = cfg
    for parent in parents:
        holder = holder.get(parent) if isinstance(holder, dict) else None
    if isinstance(holder, dict) and leaf in holder and not isinstance(holder[leaf], dict):
        holder[leaf] = _of_yacs(holder[leaf])


def _guessed_version(content: Mapping[str, Any], latest: int) -> int:
    # As detectron2/config/compat.py guesses it.
    for group, key in _OLD_KEYS:
        if key in (content.get(group) or {}):
            return 1
    return latest
