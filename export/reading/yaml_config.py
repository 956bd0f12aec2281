"""Reads YAML configs as upstream's ``tools/deploy/export_model.py`` does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, build_model

from d2serve.export.errors import ConfigError, UnsupportedFamily, one_line
from d2serve.export.reading.config import ConfigSource, ModelConfig, chosen_device
from d2serve.export.reading.families import refuse_projects
from d2serve.export.reading.resolved_text import text_of_yaml

# How detectron2's projects name the function that declares their config keys.
_CONFIG_HOOK = re.compile(r"add_\w*config")


def read_yaml(
    source: ConfigSource, path: Path, zoo_weights: str | None, modules: Sequence[ModuleType]
) -> ModelConfig:
    """Read a YAML config; see ``load_config``."""
    _check_options(source)
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
            f"{source.config_file} cannot be merged into detectron2's config ({one_line(error)}). "
            "A key of a project of your own is known after `--import my.module`, if that module "
            "has the project's add_..._config function."
        ) from error
    cfg.MODEL.WEIGHTS = zoo_weights or cfg.MODEL.WEIGHTS
    _override(cfg, source.overrides)
    cfg.MODEL.DEVICE = chosen_device(cfg.MODEL.DEVICE, "MODEL.DEVICE" in source.overrides[::2])
    _refuse_by_name(cfg)
    cfg.freeze()
    return ModelConfig(
        build=lambda: build_model(cfg.clone()),
        cfg=cfg,
        device=cfg.MODEL.DEVICE,
        weights=cfg.MODEL.WEIGHTS,
        image_format=cfg.INPUT.FORMAT,
        min_size_test=cfg.INPUT.MIN_SIZE_TEST,
        max_size_test=cfg.INPUT.MAX_SIZE_TEST,
        test_datasets=tuple(cfg.DATASETS.TEST),
        train_datasets=tuple(cfg.DATASETS.TRAIN),
        keypoint_oks_sigmas=tuple(cfg.TEST.KEYPOINT_OKS_SIGMAS),
        trust_weights=source.trust_weights,
        resolved=text_of_yaml(cfg),
    )


def _check_options(source: ConfigSource) -> None:
    given = {
        "--min-size-test": (source.min_size_test, "INPUT.MIN_SIZE_TEST"),
        "--max-size-test": (source.max_size_test, "INPUT.MAX_SIZE_TEST"),
        "--image-format": (source.image_format, "INPUT.FORMAT"),
    }
    for option, (value, key) in given.items():
        if value is not None:
            raise ConfigError(
                f"{option} is for LazyConfigs. {source.config_file} is YAML, which has a key for "
                f"it. Override that: {key} {value}"
            )


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


def _refuse_by_name(cfg: CfgNode) -> None:
    """Refuse what cannot be exported and would not show, or not be built, in the model itself."""
    if cfg.TEST.AUG.ENABLED:
        raise UnsupportedFamily(
            "TEST.AUG.ENABLED asks for test-time augmentation (GeneralizedRCNNWithTTA), which runs "
            "the model on many copies of an image and merges in Python: no program can hold it. "
            "Export the model without it: TEST.AUG.ENABLED False"
        )
    if cfg.MODEL.LOAD_PROPOSALS or cfg.MODEL.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals":
        raise UnsupportedFamily(
            "The model works on precomputed proposals (Fast R-CNN), which a client cannot send "
            "with an image. Export a model with a proposal generator of its own: "
            "MODEL.LOAD_PROPOSALS False, MODEL.PROPOSAL_GENERATOR.NAME RPN, with weights for it."
        )
    refuse_projects((cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NAME))
    _check_registered(cfg)


def _check_registered(cfg: CfgNode) -> None:
    names = {cfg.MODEL.META_ARCHITECTURE: META_ARCH_REGISTRY}
    if "RCNN" in cfg.MODEL.META_ARCHITECTURE:
        names[cfg.MODEL.ROI_HEADS.NAME] = ROI_HEADS_REGISTRY
    for name, registry in names.items():
        if name not in registry:
            raise ConfigError(
                f"{name} is not registered in detectron2. If it is yours, name the module that "
                "registers it: --import my.module"
            )
