"""Reads LazyConfigs: Python files, which run when they are read, and the YAML that training writes.

They have no keys for the resize and channel order of testing, so ``mapper`` finds them.
"""

from __future__ import annotations

import builtins
import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig, instantiate
from detectron2.utils.registry import locate
from omegaconf import OmegaConf
from torch import nn

from d2serve.export.errors import ConfigError, ExportError, one_line
from d2serve.export.reading.config import ConfigSource, ModelConfig, chosen_device
from d2serve.export.reading.config_files.code_names import resolve
from d2serve.export.reading.config_files.lazy_targets import require_known_code
from d2serve.export.reading.config_files.mapper import at, image_format_of, resize_of
from d2serve.export.reading.config_files.resolved_text import text_of_lazy
from d2serve.export.reading.installation import advice_for

_EXPECTED = (
    "Expected a Python file with `model` and `train`, and overrides such as "
    "train.init_checkpoint=model_final.pth model.roi_heads.num_classes=3"
)


def read_lazy(
    source: ConfigSource, path: Path, zoo_weights: str | None, content: dict[str, Any] | None
) -> ModelConfig:
    """Read a LazyConfig; see ``load_config``.

    Args:
        source: what the user named.
        path: the Python file.
        zoo_weights: of the model zoo, where the config is the zoo's.
        content: of the YAML file that it was written to; None where it is Python.
    """
    wrong = [override for override in source.overrides if "=" not in override]
    if wrong:
        raise ConfigError(
            f"Overrides of a LazyConfig are key=value; got {' '.join(wrong)}. Examples: "
            "train.init_checkpoint=model_final.pth model.roi_heads.num_classes=3"
        )
    config = _loaded(source, path, zoo_weights, content)
    if "model" not in config:
        raise ConfigError(
            f"{source.config_file} has no `model`; it has {sorted(map(str, config))}. Expected a "
            "LazyConfig whose `model` is a LazyCall of a detectron2 architecture."
        )
    try:
        return _as_model_config(source, path, config, content is not None)
    except ExportError:
        raise
    except Exception as error:  # omegaconf's own, of an interpolation; or of a value of no use
        raise ConfigError(
            f"{source.config_file} has a value that cannot be used ({type(error).__name__}: "
            f"{one_line(error, 200)}). Expected `train`, `model` and `dataloader` as detectron2's "
            "own LazyConfigs have them."
        ) from error


def _as_model_config(source: ConfigSource, path: Path, config: Any, is_data: bool) -> ModelConfig:
    find: Callable[[str], Any] = locate
    if is_data:
        find = functools.partial(resolve, own_packages=source.own_packages)
    by_user = any(override.startswith("train.device=") for override in source.overrides)
    device = chosen_device(str(at(config, "train.device") or "cuda"), by_user)
    min_size, max_size = resize_of(source, config, find)

    def build() -> nn.Module:
        if is_data:
            require_known_code(config.model, source)
        model = instantiate(config.model)
        if not isinstance(model, nn.Module):
            raise ConfigError(
                f"The `model` of {source.config_file} makes a {type(model).__name__}, expected a "
                "torch module: let it be a LazyCall of a detectron2 architecture."
            )
        _place_classes(model, path)
        return model.to(device)

    return ModelConfig(
        build=build,
        cfg=None,
        device=device,
        weights=str(at(config, "train.init_checkpoint") or ""),
        image_format=image_format_of(source, config),
        min_size_test=min_size,
        max_size_test=max_size,
        test_datasets=_names(at(config, "dataloader.test.dataset.names")),
        train_datasets=_names(at(config, "dataloader.train.dataset.names")),
        keypoint_oks_sigmas=tuple(at(config, "dataloader.evaluator.kpt_oks_sigmas") or ()),
        trust_weights=source.trust_weights,
        weights_key=source.weights_key,
        resolved=text_of_lazy(config),
    )


def _line(error: BaseException, path: Path) -> str:
    """Where in the config an error arose, for inside a message."""
    cause = error.__cause__  # LazyConfig tells of a syntax error without it
    if isinstance(cause, SyntaxError):
        return f" {cause.msg}, line {cause.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return f", line {lines[-1]}" if lines else ""


def _place_classes(model: nn.Module, path: Path) -> None:
    """Say where a class lies that the config's Python made with ``type()``: its globals have no
    ``__name__``, so such a class has no ``__module__``, which everything after this asks for."""
    for kind in {type(module) for module in model.modules()}:
        if not hasattr(kind, "__module__"):
            kind.__module__ = path.stem


def _loaded(
    source: ConfigSource, path: Path, zoo_weights: str | None, content: dict[str, Any] | None
) -> Any:
    """The config with its overrides."""
    honest_import = builtins.__import__
    try:
        if content is None:
            config = LazyConfig.load(str(path))
        else:  # as LazyConfig.load makes it of a YAML file
            config = OmegaConf.create(content, flags={"allow_objects": True})
        _check_keys(source, config)
        if zoo_weights is not None:
            config.train.init_checkpoint = zoo_weights
        return LazyConfig.apply_overrides(config, list(source.overrides))
    except ConfigError:
        raise
    # It is the user's Python, which may even exit; overrides are parsed by hydra, which raises its
    # own.
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{source.config_file} cannot be read as a LazyConfig ({type(error).__name__}: "
            f"{one_line(error)}{_line(error, path)}). {advice_for(error) or _EXPECTED}"
        ) from error
    finally:
        builtins.__import__ = honest_import  # where a config raises, detectron2 leaves its own


def _check_keys(source: ConfigSource, config: Any) -> None:
    """Refuse what detectron2 would add without a word: a key of another name changes nothing."""
    # Under `model` arguments may be left out of a config; instantiating it refuses wrong ones.
    for override in source.overrides:
        key = override.split("=", 1)[0].lstrip("+~")
        if not key.startswith("model.") and at(config, key) is None and not _is_null(config, key):
            raise ConfigError(
                f"{key} is not in {source.config_file}, so overriding it would change nothing. Is "
                "it misspelt? An example: train.init_checkpoint=model_final.pth"
            )


def _is_null(config: Any, path: str) -> bool:
    parent, _, leaf = path.rpartition(".")
    holder = at(config, parent) if parent else config
    return hasattr(holder, "get") and leaf in holder


def _names(names: Any) -> tuple[str, ...]:
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(str(name) for name in names)
