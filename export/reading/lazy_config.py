"""Reads LazyConfigs, which are Python files and run when they are read.

They have no keys for the resize and channel order of testing. Both are taken from the config's own
test mapper. Where it has none, the user must say them: nothing is guessed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig, instantiate
from detectron2.data import transforms
from detectron2.utils.registry import locate
from torch import nn

from d2serve.export.errors import ConfigError, one_line
from d2serve.export.reading.config import ConfigSource, ModelConfig, chosen_device
from d2serve.export.reading.installation import advice_for
from d2serve.export.reading.resolved_text import text_of_lazy


def read_lazy(source: ConfigSource, path: Path, zoo_weights: str | None) -> ModelConfig:
    """Read a LazyConfig; see ``load_config``."""
    wrong = [override for override in source.overrides if "=" not in override]
    if wrong:
        raise ConfigError(
            f"Overrides of a LazyConfig are key=value; got {' '.join(wrong)}. Examples: "
            "train.init_checkpoint=model_final.pth model.roi_heads.num_classes=3"
        )
    try:
        config = LazyConfig.load(str(path))
        _check_keys(source, config)
        if zoo_weights is not None:
            config.train.init_checkpoint = zoo_weights
        config = LazyConfig.apply_overrides(config, list(source.overrides))
    except ConfigError:
        raise
    # It is the user's Python; overrides are parsed by hydra, which raises its own.
    except Exception as error:
        advice = advice_for(error) or (
            "Expected a Python file with `model` and `train`, and overrides such as "
            "train.init_checkpoint=model_final.pth model.roi_heads.num_classes=3"
        )
        raise ConfigError(
            f"{source.config_file} cannot be read as a LazyConfig ({type(error).__name__}: "
            f"{one_line(error)}). {advice}"
        ) from error
    if "model" not in config:
        raise ConfigError(
            f"{source.config_file} has no `model`; it has {sorted(map(str, config))}. Expected a "
            "LazyConfig whose `model` is a LazyCall of a detectron2 architecture."
        )
    by_user = any(override.startswith("train.device=") for override in source.overrides)
    device = chosen_device(str(_at(config, "train.device") or "cuda"), by_user)
    min_size, max_size = _resize(source, config)

    def build() -> nn.Module:
        model: nn.Module = instantiate(config.model)
        return model.to(device)

    return ModelConfig(
        build=build,
        cfg=None,
        device=device,
        weights=str(_at(config, "train.init_checkpoint") or ""),
        image_format=_image_format(source, config),
        min_size_test=min_size,
        max_size_test=max_size,
        test_datasets=_names(_at(config, "dataloader.test.dataset.names")),
        train_datasets=_names(_at(config, "dataloader.train.dataset.names")),
        keypoint_oks_sigmas=tuple(_at(config, "dataloader.evaluator.kpt_oks_sigmas") or ()),
        trust_weights=source.trust_weights,
        resolved=text_of_lazy(config),
    )


def _check_keys(source: ConfigSource, config: Any) -> None:
    """Refuse what detectron2 would add without a word: a key of another name changes nothing."""
    # Under `model` arguments may be left out of a config; instantiating it refuses wrong ones.
    for override in source.overrides:
        key = override.split("=", 1)[0].lstrip("+~")
        if not key.startswith("model.") and _at(config, key) is None and not _is_null(config, key):
            raise ConfigError(
                f"{key} is not in {source.config_file}, so overriding it would change nothing. Is "
                "it misspelt? An example: train.init_checkpoint=model_final.pth"
            )


def _is_null(config: Any, path: str) -> bool:
    parent, _, leaf = path.rpartition(".")
    holder = _at(config, parent) if parent else config
    return hasattr(holder, "get") and leaf in holder


def _at(config: Any, path: str) -> Any:
    """What stands at a dotted path, or None where any part is missing."""
    for key in path.split("."):
        if not hasattr(config, "get") or key not in config:
            return None
        config = config.get(key)
    return config


def _names(names: Any) -> tuple[str, ...]:
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(str(name) for name in names)


def _resize(source: ConfigSource, config: Any) -> tuple[int, int]:
    """(short edge, bound of the long edge) from the options, otherwise from the test mapper."""
    given = (source.min_size_test, source.max_size_test)
    if None not in given:
        return int(given[0] or 0), int(given[1] or 0)
    if given != (None, None):
        raise ConfigError(
            "--min-size-test and --max-size-test go together (pixels of the short edge, and at "
            "most of the long one): give both or neither."
        )
    augmentations = _at(config, "dataloader.test.mapper.augmentations")
    if augmentations is None:
        raise ConfigError(
            f"{source.config_file} has no dataloader.test.mapper.augmentations, so it is not known "
            "how images are resized for the model. Add it: --min-size-test 800 --max-size-test "
            "1333 (0 for the short edge leaves images as they are)."
        )
    if len(augmentations) == 0:
        return 0, sys.maxsize
    if len(augmentations) == 1 and _class_of(augmentations[0]) is transforms.ResizeShortestEdge:
        edge = augmentations[0].get("short_edge_length")
        edges = {int(each) for each in ([edge] if isinstance(edge, int) else edge)}
        if len(edges) == 1:
            return edges.pop(), int(augmentations[0].get("max_size", sys.maxsize))
    shown = ", ".join(getattr(_class_of(each), "__name__", str(each)) for each in augmentations)
    raise ConfigError(
        f"The test mapper of {source.config_file} prepares images with {shown}; a served model "
        "does what DefaultPredictor does, one ResizeShortestEdge to one size. Give the sizes "
        "that come nearest, --min-size-test and --max-size-test, and compare the AP with `d2serve "
        "evaluate`."
    )


def _class_of(call: Any) -> Any:
    target = call.get("_target_") if hasattr(call, "get") else None
    return locate(target) if isinstance(target, str) else target


def _image_format(source: ConfigSource, config: Any) -> str:
    if source.image_format is not None:
        return source.image_format
    found = _at(config, "dataloader.test.mapper.image_format")
    if found is None:
        raise ConfigError(
            f"{source.config_file} has no dataloader.test.mapper.image_format, so the channel "
            "order of the model is not known. Add it: --image-format BGR or --image-format RGB."
        )
    return str(found)
