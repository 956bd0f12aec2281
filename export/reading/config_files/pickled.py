"""Reads a pickled CfgNode, as a popular tutorial keeps its config, without running its pickle."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from d2serve.export.errors import ConfigError, one_line

# Protocols 0 and 1, and what a config holds beside a CfgNode.
_PLAIN = {
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "dict"): dict,
    ("__builtin__", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "tuple"): tuple,
    ("collections", "OrderedDict"): dict,
}


class _Node(dict[Any, Any]):
    """Stands for a CfgNode of whichever package: its keys and values alone."""

    def __setstate__(self, _state: Any) -> None:
        """What is frozen, renamed or deprecated in it is no matter here."""


def _reconstructed(_kind: Any, _base: Any, state: Any) -> _Node:
    return _Node(state or {})


class _CfgNodesOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name == "CfgNode":
            return _Node
        if (module, name) in (("copyreg", "_reconstructor"), ("copy_reg", "_reconstructor")):
            return _reconstructed
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


def is_pickled(path: Path) -> bool:
    """Whether a config file is a pickle, by its first bytes or its name."""
    with path.open("rb") as file:
        head = file.read(2)
    named_so = path.suffix in (".pkl", ".pickle", ".p")
    return (head[:1] == b"\x80" and head[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")) or (
        named_so and head[:2] != b"PK" and head != b""
    )


def read_pickled(path: Path) -> dict[str, Any]:
    """The mapping of a pickled ``CfgNode`` or dict.

    Raises:
        ConfigError: it holds anything else, or is damaged.
    """
    try:
        with path.open("rb") as file:
            content = _CfgNodesOnly(file, encoding="latin1").load()
    # A damaged pickle raises nearly anything.
    except Exception as error:
        raise ConfigError(
            f"{path} is a pickle, but not one of a config ({one_line(error, 200)}). Expected a "
            "pickled CfgNode. If it is a checkpoint, give it with MODEL.WEIGHTS; otherwise write "
            "the config as text, where it was made: open('config.yaml', 'w').write(cfg.dump())"
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} is a pickled {type(content).__name__}, expected a pickled CfgNode."
        )
    plain: dict[str, Any] = _plain(content)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value
