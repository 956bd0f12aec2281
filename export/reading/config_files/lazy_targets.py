"""Makes sure that a LazyConfig written as YAML calls nothing but parts of models when it is built.

``instantiate`` calls whatever a ``_target_`` names, with any arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_files.code_names import CodeName, resolve


def require_known_code(model: Any, source: ConfigSource) -> None:
    """Refuse a model that names code of elsewhere.

    Args:
        model: the config's ``model``.
        source: what the user named; what it imports may be called.

    Raises:
        ConfigError: with the names.
    """
    unknown = sorted(set(_unknown(model, source.own_packages)))
    if unknown:
        module = unknown[0].rpartition(".")[0]
        raise ConfigError(
            f"The model of {source.config_file} calls {', '.join(unknown)}. A LazyConfig written "
            "as YAML is read as data: it may name layers and models of detectron2, torch, "
            "torchvision, timm and fvcore that are installed, and what you import. If it is yours, "
            f"add --import {module or 'my.module'}"
        )


def _unknown(value: Any, own_packages: frozenset[str]) -> Iterator[str]:
    if isinstance(value, CodeName):
        yield value.name
    elif hasattr(value, "items"):
        target = value.get("_target_")
        if isinstance(target, str) and isinstance(resolve(target, own_packages), CodeName):
            yield target
        for _key, each in value.items():
            yield from _unknown(each, own_packages)
    elif hasattr(value, "__iter__") and not isinstance(value, (str, bytes, type)):
        for each in value:
            yield from _unknown(each, own_packages)
