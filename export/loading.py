"""Why: detectron2 only warns when weights do not fit a config, and serves random layers then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from torch import nn

from d2serve.export.errors import ConfigError, WeightsError, one_line


class _StrictCheckpointer(DetectionCheckpointer):  # type: ignore[misc]  # detectron2 is untyped
    """DetectionCheckpointer that keeps what did not fit instead of only logging it."""

    misfits: list[str]

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        # A tensor of a wrong shape is not loaded, so it is listed as missing as well.
        wrong = {key for key, _got, _expected in incompatible.incorrect_shapes}
        self.misfits = [
            f"{key} is {tuple(got)}, expected {tuple(expected)}"
            for key, got, expected in incompatible.incorrect_shapes
        ] + [f"{key} is missing" for key in incompatible.missing_keys if key not in wrong]
        if not self.misfits:  # what did not fit is raised, not logged
            super()._log_incompatible_keys(incompatible)


def load_model(cfg: CfgNode) -> nn.Module:
    """Build the config's model and load MODEL.WEIGHTS with detectron2's own loader.

    Returns:
        The model in evaluation mode, on MODEL.DEVICE.

    Raises:
        ConfigError: detectron2 cannot build it.
        WeightsError: no weights, they cannot be fetched, or they do not fit.
    """
    weights: str = cfg.MODEL.WEIGHTS
    if not weights:
        raise WeightsError(
            "MODEL.WEIGHTS is empty: the model would answer at random. "
            "Add your checkpoint to the command: MODEL.WEIGHTS output/model_final.pth"
        )
    try:
        model: nn.Module = build_model(cfg)
    except Exception as error:
        raise ConfigError(
            f"detectron2 cannot build the model of this config ({one_line(error)}). "
            "If it names modules of your own, name the one that registers them: --import my.module"
        ) from error
    model.eval()
    checkpointer = _StrictCheckpointer(model)
    try:
        checkpointer.load(weights)
    # Path handlers and unpickling raise nearly anything.
    except Exception as error:
        raise WeightsError(
            f"{weights} cannot be loaded ({type(error).__name__}: {one_line(error)}). Expected a "
            "file that is there, or a detectron2:// or http(s) address that this machine reaches."
        ) from error
    if checkpointer.misfits:
        shown = "; ".join(checkpointer.misfits[:4])
        raise WeightsError(
            f"{weights} does not fit the config: {len(checkpointer.misfits)} tensors differ "
            f"({shown}{'; ...' if len(checkpointer.misfits) > 4 else ''}). It was probably trained "
            "with another config (number of classes, backbone): give the config of its training."
        )
    return model


def class_names(
    cfg: CfgNode, num_classes: int, given: Sequence[str] | None
) -> tuple[str, ...] | None:
    """Names of the contiguous classes: those given, or those of the data sets' metadata.

    Returns:
        One name a class, or None where the metadata has none that fit.

    Raises:
        ConfigError: the names given are not as many as the model's classes.
    """
    if given is not None:
        if len(given) != num_classes:
            raise ConfigError(
                f"--class-names has {len(given)} names, the model has {num_classes} classes. "
                "Give one name for each, in the order of training, separated by commas."
            )
        return tuple(given)
    for dataset in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        names = MetadataCatalog.get(dataset).get("thing_classes")
        if names is not None and len(names) == num_classes:
            return tuple(names)
    return None
