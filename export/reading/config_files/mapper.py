"""Finds how a LazyConfig prepares images when it is tested: in its own test mapper.

LazyConfigs have no keys for the resize and the channel order. Where a config has no such mapper,
the user must say them: nothing is guessed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from detectron2.data import transforms

from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ConfigSource


def at(config: Any, path: str) -> Any:
    """What stands at a dotted path, or None where any part is missing."""
    for key in path.split("."):
        if not hasattr(config, "get") or key not in config:
            return None
        config = config.get(key)
    return config


def resize_of(source: ConfigSource, config: Any, find: Callable[[str], Any]) -> tuple[int, int]:
    """(short edge, bound of the long edge), in pixels, from the options, otherwise from the mapper.

    Args:
        source: what the user named.
        config: a LazyConfig.
        find: looks a class up by its name.

    Raises:
        ConfigError: the mapper does not tell, or does more than a resize to one size.
    """
    sizes = _resize_of(source, config, find)
    if sizes[0] < 0 or sizes[1] < 1:
        raise ConfigError(
            f"Images are to be resized to a short edge of {sizes[0]} pixels and a long one of at "
            f"most {sizes[1]}, expected 0 or more (0 leaves images as they are) and 1 or more."
        )
    return sizes


def _resize_of(source: ConfigSource, config: Any, find: Callable[[str], Any]) -> tuple[int, int]:
    given = (source.min_size_test, source.max_size_test)
    if None not in given:
        return int(given[0] or 0), int(given[1] or 0)
    if given != (None, None):
        raise ConfigError(
            "--min-size-test and --max-size-test go together (pixels of the short edge, and at "
            "most of the long one): give both or neither."
        )
    augmentations = at(config, "dataloader.test.mapper.augmentations")
    if augmentations is None:
        raise ConfigError(
            f"{source.config_file} has no dataloader.test.mapper.augmentations, so it is not known "
            "how images are resized for the model. Add it: --min-size-test 800 --max-size-test "
            "1333 (0 for the short edge leaves images as they are)."
        )
    if len(augmentations) == 0:
        return 0, sys.maxsize
    kinds = [_class_of(each, find) for each in augmentations]
    if kinds == [transforms.ResizeShortestEdge]:
        edge = augmentations[0].get("short_edge_length")
        edges = {int(each) for each in ([edge] if isinstance(edge, int) else edge)}
        if len(edges) == 1:
            return edges.pop(), int(augmentations[0].get("max_size", sys.maxsize))
    shown = ", ".join(
        getattr(kind, "__name__", str(each)) for kind, each in zip(kinds, augmentations)
    )
    raise ConfigError(
        f"The test mapper of {source.config_file} prepares images with {shown}; a served model "
        "does what DefaultPredictor does, one ResizeShortestEdge to one size. Give the sizes "
        "that come nearest, --min-size-test and --max-size-test, and compare the AP with `d2serve "
        "evaluate`."
    )


def _class_of(call: Any, find: Callable[[str], Any]) -> Any:
    target = call.get("_target_") if hasattr(call, "get") else None
    return find(target) if isinstance(target, str) else target


def image_format_of(source: ConfigSource, config: Any) -> str:
    """The channel order from the option, otherwise from the mapper; raises as ``resize_of``."""
    if source.image_format is not None:
        return source.image_format
    found = at(config, "dataloader.test.mapper.image_format")
    if found is None:
        raise ConfigError(
            f"{source.config_file} has no dataloader.test.mapper.image_format, so the channel "
            "order of the model is not known. Add it: --image-format BGR or --image-format RGB."
        )
    return str(found)
