"""Why: users type what they type for upstream's export tool: a config, then overrides.

A YAML file or the name of a model-zoo config becomes a frozen detectron2 config.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg

from d2serve.export.errors import ConfigError, one_line

# How detectron2's projects name the function that declares their config keys.
_CONFIG_HOOK = re.compile(r"add_\w*config")


def load_config(config_file: str, overrides: Sequence[str], imports: Sequence[str] = ()) -> CfgNode:
    """Read a config as upstream's ``tools/deploy/export_model.py`` does.

    A model-zoo name takes the zoo's trained weights with it, unless MODEL.WEIGHTS is overridden.
    Where the config leaves the device at CUDA and there is none, the CPU is used.

    Args:
        config_file: path of a YAML file, or a model-zoo name such as
            ``COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml``.
        overrides: ``KEY VALUE`` pairs.
        imports: modules to import first, since they register backbones, heads or data sets.
            A function ``add_..._config(cfg)`` in one of them is called, as detectron2's
            projects do, so that their config keys are known.

    Raises:
        ConfigError: with what does not fit, and what would.
    """
    modules = [_import(name) for name in imports]
    path = _locate(config_file)
    cfg = get_cfg()
    for module in modules:
        for name, hook in vars(module).items():
            if _CONFIG_HOOK.fullmatch(name) and callable(hook):
                hook(cfg)
    try:
        cfg.merge_from_file(str(path))
    # yacs raises KeyError, ValueError, AssertionError; the YAML parser its own.
    except Exception as error:
        raise ConfigError(
            f"{config_file} cannot be merged into detectron2's config ({one_line(error)}). "
            "A key of a project of your own is known after `--import my.module`, if that module "
            "has the project's add_..._config function."
        ) from error
    if not Path(config_file).is_file():
        cfg.MODEL.WEIGHTS = _zoo_weights(config_file) or cfg.MODEL.WEIGHTS
    _override(cfg, overrides)
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        if "MODEL.DEVICE" in overrides[::2]:
            raise ConfigError(
                f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but torch {torch.__version__} sees no CUDA "
                "device. Leave it out to export on the CPU: the program runs on either."
            )
        cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    return cfg


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
    if path.suffix == ".py":
        raise ConfigError(f"{config_file} is a LazyConfig; only YAML configs are supported so far.")
    if path.is_file():
        return path
    try:
        return Path(model_zoo.get_config_file(config_file))
    except RuntimeError:
        raise ConfigError(
            f"{config_file} is neither a file nor a name in the model zoo. Expected a path to a "
            "YAML config, or a name such as COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml."
        ) from None


def _zoo_weights(name: str) -> str | None:
    try:
        url: str = model_zoo.get_checkpoint_url(name)
    except RuntimeError:  # a config without published weights
        return None
    return url


def _override(cfg: CfgNode, overrides: Sequence[str]) -> None:
    if len(overrides) % 2:
        raise ConfigError(
            f"Overrides are KEY VALUE pairs; got {len(overrides)} words, the last is "
            f"{overrides[-1]!r}."
        )
    try:
        cfg.merge_from_list(list(overrides))
    except Exception as error:
        raise ConfigError(
            f"An override does not fit the config ({one_line(error)}). Expected KEY VALUE pairs "
            "such as MODEL.WEIGHTS model_final.pth, with keys that the config has."
        ) from error


def config_device(cfg: Any) -> str:
    """The device on which the config runs: ``"cpu"`` or ``"cuda..."``."""
    device: str = cfg.MODEL.DEVICE
    return device
