"""Reads YAML configs, and pickled ones, as upstream's ``tools/deploy/export_model.py`` does.

But as data: what would run code is refused (``config_files``). Keys that detectron2 does not know
are kept and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, build_model

from d2serve.export.errors import ConfigError, UnsupportedFamily
from d2serve.export.reading.config import (
    ConfigSource,
    ModelConfig,
    about_unknown,
    chosen_device,
)
from d2serve.export.reading.config_files.merging import merge, nearest, why_not_merged
from d2serve.export.reading.config_files.project_keys import config_with_keys_of
from d2serve.export.reading.config_files.resolved_text import text_of_yaml
from d2serve.export.reading.config_files.value_checks import check_values
from d2serve.export.reading.families import refuse_projects
from d2serve.export.reading.installation import advice_on_unregistered


def read_yaml(
    source: ConfigSource,
    content: Mapping[str, Any],
    zoo_weights: str | None,
    modules: Sequence[ModuleType],
) -> ModelConfig:
    """Make a config of what a file says; see ``load_config``.

    Args:
        source: what the user named.
        content: of the file, with its bases.
        zoo_weights: of the model zoo, where the config is the zoo's.
        modules: that the user imported; they declare keys.
    """
    _check_options(source)
    cfg = config_with_keys_of(modules)
    unknown = merge(cfg, content, source.config_file)
    by_user = source.overrides[::2]
    cfg.MODEL.WEIGHTS = zoo_weights or cfg.MODEL.WEIGHTS
    _override(cfg, source.overrides)
    check_values(cfg)
    cfg.MODEL.DEVICE = chosen_device(cfg.MODEL.DEVICE, "MODEL.DEVICE" in by_user)
    _refuse_by_name(cfg, unknown)
    cfg.freeze()
    return ModelConfig(
        build=lambda: build_model(cfg.clone()),
        cfg=cfg,
        device=cfg.MODEL.DEVICE,
        weights=cfg.MODEL.WEIGHTS,
        image_format=cfg.INPUT.FORMAT,
        min_size_test=cfg.INPUT.MIN_SIZE_TEST,
        max_size_test=cfg.INPUT.MAX_SIZE_TEST,
        test_datasets=tuple(cfg.DATASETS.TEST or ()),
        train_datasets=tuple(cfg.DATASETS.TRAIN or ()),
        keypoint_oks_sigmas=tuple(cfg.TEST.KEYPOINT_OKS_SIGMAS or ()),
        trust_weights=source.trust_weights,
        weights_key=source.weights_key,
        resolved=text_of_yaml(cfg),
        unknown_keys=unknown,
        notes=_notes(cfg, unknown),
    )


def _notes(cfg: CfgNode, unknown: Sequence[str]) -> tuple[str, ...]:
    if not unknown:
        return ()
    shown = ", ".join(_with_guess(key, cfg) for key in unknown)
    return (
        f"detectron2 does not know these keys of the config, so nothing of it reads them: {shown}. "
        "A training script or another version of detectron2 may have written them. If your model's "
        "own code needs them, name the module that declares them: --import my.module",
    )


def _with_guess(key: str, cfg: CfgNode) -> str:
    guess = nearest(key, cfg)
    return key if guess is None else f"{key} (or is it {guess}, misspelt?)"


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
            f"An override does not fit the config: {why_not_merged(error)} Expected KEY VALUE "
            "pairs such as MODEL.WEIGHTS model_final.pth, with keys that the config has."
        ) from error


def _refuse_by_name(cfg: CfgNode, unknown: Sequence[str]) -> None:
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
    _check_registered(cfg, unknown)


def _check_registered(cfg: CfgNode, unknown: Sequence[str]) -> None:
    names = {cfg.MODEL.META_ARCHITECTURE: META_ARCH_REGISTRY}
    if "RCNN" in cfg.MODEL.META_ARCHITECTURE:
        names[cfg.MODEL.ROI_HEADS.NAME] = ROI_HEADS_REGISTRY
    for name, registry in names.items():
        if name not in registry:
            raise ConfigError(
                f"{name} is not registered in detectron2. {advice_on_unregistered(name)}"
                f"{about_unknown(unknown)}"
            )
