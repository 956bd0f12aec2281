"""The official configurations, each of which has a row: the list is detectron2's own.

Configurations that describe the same model, such as those of a 1x and a 3x schedule, are told by
comparing what they say of the model when it is tested.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2 import model_zoo
from detectron2.config import CfgNode, LazyConfig, get_cfg
from omegaconf import OmegaConf

from d2serve.export.reading.config import ConfigSource

SHORT_EDGE, LONG_EDGE = 128, 160
"""Test size of the models, in pixels: a forward has to be cheap."""
PROPOSALS, DETECTIONS = 100, 30
"""Kept of an image, for the same reason; upstream's configs say 1000, and 100 or 300."""

_CONFIGS = Path(model_zoo.__file__).parent / "configs"
# Parts of other configs, and upstream's own continuous integration.
_NO_ROWS = ("common", "quick_schedules")
# Parts of a key's name that say that it matters in training only.
_TRAINING = (
    *("train", "loss", "beta", "freeze_at", "weights_url", "positive_fraction", "gamma", "alpha"),
    *("batch_size_per_image", "matcher", "iou_thresholds", "iou_labels", "boundary_thresh"),
    *("proposal_append_gt", "focal", "in_features_train", "bbox_reg_loss", "center_sampling"),
)


def zoo_configs() -> list[str]:
    """Names of the zoo's configurations, as ``model_zoo.get`` takes them, sorted."""
    files = (file.relative_to(_CONFIGS) for kind in ("yaml", "py") for file in _files(kind))
    return sorted(
        file.as_posix()
        for file in files
        if file.parts[0] not in _NO_ROWS and not file.name.startswith(("Base-", "__"))
    )


def _files(kind: str) -> list[Path]:
    return list(_CONFIGS.rglob(f"*.{kind}"))


def same_models(names: Sequence[str]) -> dict[str, str]:
    """For each name, the first of those that describe the same model; often itself."""
    first: dict[str, str] = {}
    return {name: first.setdefault(_description(name), name) for name in names}


def source_of(name: str, weights: str | None = None) -> ConfigSource:
    """A zoo configuration at the small test size, with weights of our own or none."""
    if not name.endswith(".py"):
        return ConfigSource(
            name,
            overrides=(
                *("MODEL.WEIGHTS", weights or "", "MODEL.DEVICE", "cpu"),
                *("INPUT.MIN_SIZE_TEST", str(SHORT_EDGE), "INPUT.MAX_SIZE_TEST", str(LONG_EDGE)),
                *("MODEL.RPN.POST_NMS_TOPK_TEST", str(PROPOSALS)),
                *("TEST.DETECTIONS_PER_IMAGE", str(DETECTIONS)),
            ),
        )
    config = LazyConfig.load(str(_CONFIGS / name))
    overrides = [f"train.init_checkpoint={weights or ''}"]
    if OmegaConf.select(config, "model.proposal_generator") is not None:
        overrides += [
            f"model.proposal_generator.post_nms_topk=[{PROPOSALS},{PROPOSALS}]",
            f"+model.roi_heads.box_predictor.test_topk_per_image={DETECTIONS}",
        ]
    elif "num_classes" in config.model:
        overrides.append(f"+model.max_detections_per_image={DETECTIONS}")
    named = OmegaConf.select(config, "dataloader.test.mapper.image_format")
    return ConfigSource(
        name,
        overrides=overrides,
        min_size_test=SHORT_EDGE,
        max_size_test=LONG_EDGE,
        # What has no data mapper has no order of channels either, and any will do.
        image_format=None if named else "BGR",
    )


def _description(name: str) -> str:
    file = str(_CONFIGS / name)
    # Upstream's RetinaNet has a Python expression in it: the zoo's own files are trusted.
    logging.getLogger("fvcore.common.config").setLevel(logging.ERROR)
    if name.endswith(".py"):
        config = LazyConfig.load(file)
        order = OmegaConf.select(config, "dataloader.test.mapper.image_format")
        said = [_plain(OmegaConf.to_container(config.model)), order]
    else:
        cfg = get_cfg()
        cfg.merge_from_file(file, allow_unsafe=True)
        cfg.MODEL.WEIGHTS = ""
        test = {"detections": cfg.TEST.DETECTIONS_PER_IMAGE, "augmented": cfg.TEST.AUG.ENABLED}
        said = [_plain(cfg.MODEL), cfg.INPUT.FORMAT, test]
    return json.dumps(said, sort_keys=True)


def _plain(value: Any) -> Any:
    """A config as JSON has it, without what matters in training only; functions by their code."""
    if isinstance(value, (CfgNode, Mapping)):
        return {
            str(key): _plain(each)
            for key, each in value.items()
            if not any(part in str(key).lower() for part in _TRAINING)
        }
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if getattr(value, "__name__", "") == "<lambda>":
        code = value.__code__
        return [code.co_code.hex(), *map(str, code.co_consts), *code.co_names]
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)
