"""Builds a config's model and loads its weights, which must fit to the last tensor.

detectron2 only warns when weights do not fit a config, and then answers from random layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from d2serve.export.errors import ConfigError, WeightsError, one_line
from d2serve.export.reading.checkpointer import StrictCheckpointer
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.installation import advice_for
from d2serve.export.reading.name_sources import FoundNames
from d2serve.export.rewrites.stand_ins import buildable


@dataclass(frozen=True)
class LoadedWeights:
    """What a weights file was, and what it has beside the weights."""

    file: Path
    """The file that was read, which may have been fetched."""
    class_names: FoundNames | None
    """What it calls the classes, if it does."""


def build_model(config: ModelConfig) -> nn.Module:
    """Build the config's model, with random weights, in evaluation mode.

    Raises:
        ConfigError: detectron2 cannot build it.
    """
    try:
        with buildable():
            model = config.build()
    except Exception as error:
        advice = advice_for(error) or (
            "If it names modules of your own, name the one that registers them: --import my.module"
        )
        raise ConfigError(
            f"detectron2 cannot build the model of this config ({one_line(error)}). {advice}"
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


def load_weights(model: nn.Module, config: ModelConfig) -> LoadedWeights:
    """Load the config's weights into its model, in place; raises as ``load_model``."""
    weights = config.weights
    if not weights:
        key = "train.init_checkpoint=" if config.cfg is None else "MODEL.WEIGHTS "
        raise WeightsError(
            "The config names no weights: the model would answer at random. "
            f"Add your checkpoint to the command: {key}output/model_final.pth"
        )
    checkpointer = StrictCheckpointer(model, trusted=config.trust_weights)
    try:
        checkpointer.load(weights)
    except WeightsError as error:
        if weights in str(error):
            raise
        raise WeightsError(f"{weights}: {error}") from error  # it names the fetched file
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
    return LoadedWeights(checkpointer.file, checkpointer.class_names)
