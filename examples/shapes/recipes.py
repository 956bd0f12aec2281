"""How each example model is built, fed and trained, whichever kind of config it has.

A YAML config becomes a model through detectron2's registries, a LazyConfig by calling what it
names. Beyond this module nobody needs to know which: both end up as a ``Recipe``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.data.detection_utils import build_augmentation
from detectron2.modeling import build_model
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.point_rend import add_pointrend_config
from detectron2.solver import LRMultiplier, build_lr_scheduler, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from omegaconf import DictConfig

from d2serve.export.rewrites.panoptic_deeplab.project import import_project
from examples.shapes.schema import EXAMPLE_ROOT

MODELS_FOLDER = EXAMPLE_ROOT / "models"
# The first is trained from scratch, the others start from it.
FIRST_MODEL = "mask_rcnn_fpn"
MODEL_NAMES = (
    FIRST_MODEL,
    "faster_rcnn_fpn",
    "keypoint_rcnn_fpn",
    "retinanet",
    "faster_rcnn_c4",
    "mask_rcnn_dc5",
    "cascade_mask_rcnn_fpn",
    "semantic_fpn",
    "panoptic_fpn",
    "rpn_fpn",
    "fcos",
    "point_rend",
    "mask_rcnn_dconv_fpn",
    "vitdet",
    "regnet_mask_rcnn",
    "swin_mask_rcnn",
    "mvitv2_cascade",
    "mask_rcnn_gn_cls_agnostic",
    "deeplab_v3plus",
    "panoptic_deeplab",
)
ROTATED_MODEL = "rotated_faster_rcnn_fpn"
"""Has a module of its own to train it, train_rotated."""


def _add_panoptic_deeplab_config(cfg: CfgNode) -> None:
    import_project().add_panoptic_deeplab_config(cfg)


# What declares the keys that detectron2's defaults do not have.
_KEYS: dict[str, Callable[[CfgNode], None]] = {
    "point_rend": add_pointrend_config,
    "deeplab_v3plus": add_deeplab_config,
    "panoptic_deeplab": _add_panoptic_deeplab_config,
}


@dataclass(frozen=True)
class Recipe:
    """One model. The functions build things anew at each call, from the model's config.

    ``datasets`` are detectron2's names of what it is trained and what it is measured on.
    ``clip_norm`` is None where the optimizer itself clips gradients. ``imitated_levels`` are the
    feature maps that a backbone of another kind learns from the first model's, see imitation.py.
    """

    name: str
    weights: Path
    input_format: str
    seed: int
    iterations: int
    datasets: tuple[str, str]
    keypoint_sigmas: list[float]
    model: Callable[[], torch.nn.Module]
    training_batches: Callable[[], Iterable[list[dict[str, Any]]]]
    test_batches: Callable[[], Iterable[list[dict[str, Any]]]]
    optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer]
    scheduler: Callable[[torch.optim.Optimizer], Any]
    clip_norm: float | None
    bf16: bool
    imitated_levels: tuple[str, ...]


def config_file(name: str) -> Path:
    """The model's YAML or LazyConfig; ValueError lists the known models if it is none of them."""
    if name not in MODEL_NAMES:
        raise ValueError(f"unknown model {name!r}; the models are: {', '.join(MODEL_NAMES)}")
    lazy = MODELS_FOLDER / f"{name}.py"
    return lazy if lazy.is_file() else MODELS_FOLDER / f"{name}.yaml"


def recipe_of(name: str) -> Recipe:
    """The model's recipe, on the CPU, with weights found from any folder."""
    file = config_file(name)
    # The config's own path starts at the repository root.
    weights = MODELS_FOLDER / f"{name}.pth"
    return _of_lazy(name, file, weights) if file.suffix == ".py" else _of_yaml(name, file, weights)


def _of_yaml(name: str, file: Path, weights: Path) -> Recipe:
    cfg = get_cfg()
    if name in _KEYS:
        _KEYS[name](cfg)
    cfg.merge_from_file(str(file))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = str(weights)
    return Recipe(
        name=name,
        weights=weights,
        input_format=cfg.INPUT.FORMAT,
        seed=cfg.SEED,
        iterations=cfg.SOLVER.MAX_ITER,
        datasets=(cfg.DATASETS.TRAIN[0], cfg.DATASETS.TEST[0]),
        keypoint_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
        model=partial(build_model, cfg),
        training_batches=partial(_training_batches, cfg),
        test_batches=partial(build_detection_test_loader, cfg, cfg.DATASETS.TEST[0]),
        optimizer=partial(_adamw, cfg),
        scheduler=partial(build_lr_scheduler, cfg),
        clip_norm=None,
        bf16=True,
        imitated_levels=(),
    )


def _training_batches(cfg: CfgNode) -> Iterable[list[dict[str, Any]]]:
    loader: Iterable[list[dict[str, Any]]]
    if cfg.MODEL.META_ARCHITECTURE == "PanopticDeepLab":
        mapper = import_project().PanopticDeeplabDatasetMapper
        loader = build_detection_train_loader(
            cfg, mapper=mapper(cfg, augmentations=build_augmentation(cfg, is_train=True))
        )
    else:
        loader = build_detection_train_loader(cfg)
    if "DeepLab" not in cfg.MODEL.SEM_SEG_HEAD.NAME:
        return loader
    # Its maps are a multiple of the stride in size, and the loss wants labels of that size.
    stride = cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE
    return ([_cut(each, stride) for each in batch] for batch in loader)


def _cut(example: dict[str, Any], stride: int) -> dict[str, Any]:
    height, width = (side // stride * stride for side in example["image"].shape[-2:])
    return {
        name: value[..., :height, :width] if isinstance(value, torch.Tensor) else value
        for name, value in example.items()
    }


def _adamw(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """AdamW where detectron2 has SGD: from scratch it gets much further in so few steps."""
    parameters = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
    )
    optimizer = torch.optim.AdamW(
        parameters, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY
    )
    clipped: torch.optim.Optimizer = maybe_add_gradient_clipping(cfg, optimizer)
    return clipped


def _of_lazy(name: str, file: Path, weights: Path) -> Recipe:
    cfg = LazyConfig.load(str(file))
    return Recipe(
        name=name,
        weights=weights,
        input_format=cfg.dataloader.test.mapper.image_format,
        seed=cfg.train.seed,
        iterations=cfg.train.max_iter,
        datasets=(cfg.dataloader.train.dataset.names, cfg.dataloader.test.dataset.names),
        keypoint_sigmas=[],
        model=partial(instantiate, cfg.model),
        training_batches=partial(instantiate, cfg.dataloader.train),
        test_batches=partial(instantiate, cfg.dataloader.test),
        optimizer=partial(_lazy_optimizer, cfg),
        scheduler=partial(_lazy_scheduler, cfg),
        clip_norm=cfg.train.clip_norm,
        bf16=cfg.train.amp.enabled,
        imitated_levels=tuple(cfg.train.imitated_levels),
    )


def _lazy_optimizer(cfg: DictConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    cfg.optimizer.params.model = model
    optimizer: torch.optim.Optimizer = instantiate(cfg.optimizer)
    return optimizer


def _lazy_scheduler(cfg: DictConfig, optimizer: torch.optim.Optimizer) -> Any:
    return LRMultiplier(optimizer, instantiate(cfg.lr_multiplier), cfg.train.max_iter)
