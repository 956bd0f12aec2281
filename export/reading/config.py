"""Why: users type what they type for upstream's tools: a config, then overrides.

A YAML file, a LazyConfig or the name of a model-zoo config of either kind becomes one record, so
that nothing after it needs to know which it was.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode
from torch import nn

from d2serve.export.errors import ConfigError, UnsupportedFamily, one_line

FORMATS = ("BGR", "RGB")


@dataclass(frozen=True)
class ConfigSource:
    """What a user names; the fields are options of the commands."""

    config_file: str
    """Path of a YAML file or of a LazyConfig (.py), or a model-zoo name such as
    ``COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml``."""
    overrides: Sequence[str] = ()
    """``KEY VALUE`` pairs for YAML, ``key=value`` for a LazyConfig."""
    imports: Sequence[str] = ()
    """Modules to import first, since they register backbones, heads or data sets. A function
    ``add_..._config(cfg)`` in one of them is called, as detectron2's projects do."""
    min_size_test: int | None = None
    """For a LazyConfig whose test mapper does not tell; likewise the next two."""
    max_size_test: int | None = None
    image_format: str | None = None
    trust_weights: bool = False
    """Whether to unpickle weights that hold more than tensors, which may run code."""

    @property
    def is_lazy(self) -> bool:
        """Whether it is a LazyConfig, which is Python and runs when it is read."""
        return self.config_file.endswith(".py")


@dataclass(frozen=True)
class ModelConfig:
    """What a config says of a model, and of how its images are prepared when it is tested."""

    build: Callable[[], nn.Module]
    """The model with random weights, on ``device``."""
    cfg: CfgNode | None
    """The YAML config, or None where it is a LazyConfig."""
    device: str
    """``"cpu"`` or ``"cuda..."``."""
    weights: str
    """A path or address; empty where the config names none."""
    image_format: str
    """``"BGR"`` or ``"RGB"``."""
    min_size_test: int
    """ResizeShortestEdge's short edge in pixels; 0 leaves images as they are."""
    max_size_test: int
    """ResizeShortestEdge's bound of the long edge, in pixels."""
    test_datasets: tuple[str, ...]
    train_datasets: tuple[str, ...]
    keypoint_oks_sigmas: tuple[float, ...]
    trust_weights: bool


def load_config(source: ConfigSource) -> ModelConfig:
    """Read a config with detectron2's own readers.

    A model-zoo name takes the zoo's trained weights with it, unless they are overridden. Where the
    config leaves the device at CUDA and there is none, the CPU is used.

    Raises:
        ConfigError: with what does not fit, and what would.
        UnsupportedFamily: the config asks for what no program can answer.
    """
    # Each reads with this module's help.
    from d2serve.export.reading.lazy_config import read_lazy
    from d2serve.export.reading.yaml_config import read_yaml

    modules = [_import(name) for name in source.imports]
    path = _locate(source.config_file)
    zoo_weights = None if Path(source.config_file).is_file() else _zoo_weights(source.config_file)
    config = (
        read_lazy(source, path, zoo_weights)
        if source.is_lazy
        else read_yaml(source, path, zoo_weights, modules)
    )
    if config.image_format not in FORMATS:
        raise UnsupportedFamily(
            f"The image format is {config.image_format}; DefaultPredictor, whose answer is served, "
            "takes BGR and RGB only."
        )
    return config


def chosen_device(named: str, by_user: bool) -> str:
    """The device to export on: the CPU where CUDA is only a default and not there.

    Args:
        named: the config's.
        by_user: whether an override says so.

    Raises:
        ConfigError: the user asks for CUDA, which is not there.
    """
    if not named.startswith("cuda") or torch.cuda.is_available():
        return named
    if by_user:
        raise ConfigError(
            f"The device is overridden to {named}, but torch {torch.__version__} sees no CUDA "
            "device. Leave it out to export on the CPU: the program runs on either."
        )
    return "cpu"


def _import(name: str) -> ModuleType:
    # As `python -m` would: modules beside the user are found.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ConfigError(
            f"--import {name}: cannot be imported from {Path.cwd()} "
            f"({type(error).__name__}: {one_line(error)}). "
            "Give the module's dotted name, and install it or run from the folder that holds it."
        ) from error


def _locate(config_file: str) -> Path:
    path = Path(config_file)
    if path.is_file():
        return path
    try:
        return Path(model_zoo.get_config_file(config_file))
    except RuntimeError:
        raise ConfigError(
            f"{config_file} is neither a file nor a name in the model zoo. Expected a path to a "
            "YAML config or a LazyConfig, or a name such as "
            "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml."
        ) from None


def _zoo_weights(name: str) -> str | None:
    try:
        url: str = model_zoo.get_checkpoint_url(name)
    except RuntimeError:  # a config without published weights
        return None
    return url
