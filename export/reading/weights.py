"""Builds a config's model and loads its weights, which must fit to the last tensor.

detectron2 only warns when weights do not fit a config, and then answers from random layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from d2serve.export.errors import (
    ConfigError,
    ExportError,
    WeightsError,
    one_line,
    place_in_traceback,
)
from d2serve.export.reading.checkpoints.checkpointer import StrictCheckpointer
from d2serve.export.reading.config import ModelConfig, about_unknown
from d2serve.export.reading.installation import advice_for, advice_on_unregistered
from d2serve.export.rewrites.stand_ins import buildable


@dataclass(frozen=True)
class LoadedWeights:
    """What came of reading a weights file."""

    file: Path
    """That was read, which may have been fetched."""
    key: str
    """Where they stood in it, where detectron2 would not look by itself; otherwise empty."""
    notes: tuple[str, ...]
    """What the user should know: which of several sets of weights was taken, what was left."""
    beside: Mapping[str, Any]
    """What the file holds beside its tensors, as data: Lightning's ``hyper_parameters``,
    mmdetection's ``meta``, arguments of a script. Not detectron2's, so of any form."""


def build_model(config: ModelConfig) -> nn.Module:
    """Build the config's model, with random weights, in evaluation mode.

    Raises:
        ConfigError: detectron2 cannot build it.
    """
    try:
        with buildable():
            model = config.build()
    except ConfigError:
        raise
    except Exception as error:
        advice = advice_for(error) or _advice_on_building(error, config)
        raise ConfigError(
            f"detectron2 cannot build the model of this config ({type(error).__name__}: "
            f"{one_line(error)}{place_in_traceback(error)}). {advice}"
        ) from error
    return model.eval()


def _advice_on_building(error: Exception, config: ModelConfig) -> str:
    unknown = about_unknown(config.unknown_keys)
    if "registry" in str(error):
        return advice_on_unregistered(str(error)) + unknown
    own = (
        "If it names modules of your own, name the one that registers them: --import my.module"
        + unknown
    )
    if isinstance(error, (AttributeError, ImportError)):  # of a key that nobody declared
        return own
    return f"Probably a value of the config does not fit: the line is where it is read. {own}"


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
            f"Add your checkpoint to the command: {key}"
            f"{config.trained_weights or 'output/model_final.pth'}"
        )
    if Path(weights).is_dir():
        raise WeightsError(f"{weights} is a folder, expected a weights file. {_inside(weights)}")
    if "://" not in weights and not _is_there(weights):
        raise WeightsError(
            f"{weights} cannot be loaded: no such file, seen from {Path.cwd()}. Expected the path "
            f"of a checkpoint, or a detectron2:// or http(s) address.{_trained_beside(config)}"
        )
    checkpointer = StrictCheckpointer(model, trusted=config.trust_weights, key=config.weights_key)
    try:
        checkpointer.load(weights)
    except ExportError as error:
        if weights in str(error) or isinstance(error, ConfigError):
            raise
        raise WeightsError(f"{weights}: {error}") from error  # it names the fetched file
    # Path handlers and matching heuristics raise nearly anything.
    except Exception as error:
        raise WeightsError(
            f"{weights} cannot be loaded ({type(error).__name__}: {one_line(error)}). Expected a "
            "file that is there, or a detectron2:// or http(s) address that this machine reaches."
            + _trained_beside(config)
        ) from error
    if checkpointer.misfits:
        shown = "; ".join(checkpointer.misfits[:4])
        raise WeightsError(
            f"{weights} does not fit the config: {len(checkpointer.misfits)} tensors differ "
            f"({shown}{'; ...' if len(checkpointer.misfits) > 4 else ''}). It was probably trained "
            "with another config (classes, backbone, channels): give the config of its training."
            + _trained_beside(config)
        )
    if checkpointer.unusable:
        shown = "; ".join(checkpointer.unusable[:3])
        raise WeightsError(
            f"{weights} has tensors that no model can answer with: {shown}"
            f"{'; ...' if len(checkpointer.unusable) > 3 else ''}. Its training has probably "
            "failed, or it was converted for another program: give the checkpoint of an earlier "
            "iteration."
        )
    return LoadedWeights(
        checkpointer.file, checkpointer.key, checkpointer.notes, checkpointer.beside
    )


def _is_there(weights: str) -> bool:
    return Path(weights).is_file() or Path(weights.partition("?")[0]).is_file()


def _inside(folder: str) -> str:
    files = sorted(
        each.name for each in Path(folder).iterdir() if each.suffix in (".pth", ".pkl", ".pt")
    )
    return f"Give one that is in it: {', '.join(files[:5])}." if files else "There is none in it."


def _trained_beside(config: ModelConfig) -> str:
    if config.trained_weights is None:
        return ""
    return f" Beside the config lies {config.trained_weights}: is that the one?"
