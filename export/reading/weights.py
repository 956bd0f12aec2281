"""Why: detectron2 only warns when weights do not fit a config, and serves random layers then."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager
from torch import nn

from d2serve.export.errors import ConfigError, WeightsError, one_line
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.unpickling import read_arrays, read_tensors
from d2serve.export.rewrites.eager import buildable


class _StrictCheckpointer(DetectionCheckpointer):  # type: ignore[misc]  # detectron2 is untyped
    """DetectionCheckpointer that keeps what did not fit instead of only logging it."""

    misfits: list[str]
    trusted = False

    def _load_file(self, filename: str) -> Any:
        if filename.endswith(".pkl") and not self.trusted:
            with PathManager.open(filename, "rb") as file:
                read_arrays(file, filename)  # refuses what detectron2 would unpickle
        return super()._load_file(filename)

    def _torch_load(self, filename: str) -> Any:
        with PathManager.open(filename, "rb") as file:
            if self.trusted:
                return torch.load(file, map_location="cpu", weights_only=False)
            return read_tensors(file, filename)

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        # A tensor of a wrong shape is not loaded, so it is listed as missing as well.
        wrong = {key for key, _got, _expected in incompatible.incorrect_shapes}
        self.misfits = [
            f"{key} is {tuple(got)}, expected {tuple(expected)}"
            for key, got, expected in incompatible.incorrect_shapes
        ] + [f"{key} is missing" for key in incompatible.missing_keys if key not in wrong]
        if not self.misfits:  # what did not fit is raised, not logged
            super()._log_incompatible_keys(incompatible)


def build_model(config: ModelConfig) -> nn.Module:
    """Build the config's model, with random weights, in evaluation mode.

    Raises:
        ConfigError: detectron2 cannot build it.
    """
    try:
        with buildable():
            model = config.build()
    except Exception as error:
        raise ConfigError(
            f"detectron2 cannot build the model of this config ({one_line(error)}). "
            "If it names modules of your own, name the one that registers them: --import my.module"
        ) from error
    return model.eval()


def load_model(config: ModelConfig) -> nn.Module:
    """Build the config's model and load its weights with detectron2's own loader.

    Returns:
        The model in evaluation mode, on the config's device.

    Raises:
        ConfigError: detectron2 cannot build it.
        WeightsError: no weights, they cannot be fetched, or they do not fit.
    """
    model = build_model(config)
    load_weights(model, config)
    return model


def load_weights(model: nn.Module, config: ModelConfig) -> None:
    """Load the config's weights into its model, in place; raises as ``load_model``."""
    weights = config.weights
    if not weights:
        key = "train.init_checkpoint=" if config.cfg is None else "MODEL.WEIGHTS "
        raise WeightsError(
            "The config names no weights: the model would answer at random. "
            f"Add your checkpoint to the command: {key}output/model_final.pth"
        )
    checkpointer = _StrictCheckpointer(model)
    checkpointer.trusted = config.trust_weights
    try:
        checkpointer.load(weights)
    except WeightsError:
        raise
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
