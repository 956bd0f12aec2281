"""What a user names as a config, and what any config says of a model.

Users type what they type for upstream's tools: a config, then overrides. A YAML file, a LazyConfig
or the name of a model-zoo config of either kind becomes one record, so that nothing after it needs
to know which it was. ``config_loading`` makes that record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from d2serve.export.errors import ConfigError

if TYPE_CHECKING:  # what asks for an export without a config needs no detectron2
    from detectron2.config import CfgNode


@dataclass(frozen=True)
class ConfigSource:
    """What a user names; the fields are options of the commands."""

    config_file: str
    """Path of a YAML file, of a LazyConfig (.py, or the YAML that its training wrote) or of a
    pickled CfgNode, or a model-zoo name such as
    ``COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml``."""
    overrides: Sequence[str] = ()
    """``KEY VALUE`` pairs for YAML, ``key=value`` for a LazyConfig."""
    imports: Sequence[str] = ()
    """Modules to import first, since they register backbones, heads or data sets. A function
    ``add_..._config(cfg)`` in one of them is called, as detectron2's projects do, and a
    ``get_cfg()`` of its own gives keys and defaults."""
    min_size_test: int | None = None
    """For a LazyConfig whose test mapper does not tell; likewise the next two."""
    max_size_test: int | None = None
    image_format: str | None = None
    trust_weights: bool = False
    """Whether to unpickle weights that hold more than tensors, which may run code."""
    weights_key: str | None = None
    """Where the tensors stand in a weights file that has several sets of them."""

    @property
    def own_packages(self) -> frozenset[str]:
        """Packages of the user's own: a YAML may name what is in them."""
        return frozenset(name.partition(".")[0] for name in self.imports)


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
    """As ``read_image`` takes it; ``image_form_of`` says what it means for the model."""
    min_size_test: int
    """ResizeShortestEdge's short edge in pixels; 0 leaves images as they are."""
    max_size_test: int
    """ResizeShortestEdge's bound of the long edge, in pixels."""
    test_datasets: tuple[str, ...]
    train_datasets: tuple[str, ...]
    keypoint_oks_sigmas: tuple[float, ...]
    trust_weights: bool
    resolved: str
    """All of it as text, once everything is merged, but for where its weights lie."""
    weights_key: str | None = None
    """As in ``ConfigSource``."""
    unknown_keys: tuple[str, ...] = ()
    """Keys of the file that detectron2 does not know; kept for code of the user's own."""
    trained_weights: str | None = None
    """The weights that training left beside the config, where the config names others."""
    notes: tuple[str, ...] = ()
    """What the user should know of how it was read, a sentence or two each."""


def about_unknown(keys: Sequence[str]) -> str:
    """What to try where something is missing and a config has keys that are not known, or ""."""
    if not keys:
        return ""
    shown = ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "")
    return (
        f". The config also has keys that detectron2 does not know ({shown}): import the module "
        "that declares them in its add_..._config or get_cfg as well"
    )


def chosen_device(named: str, by_user: bool) -> str:
    """The device to export on: the CPU, or CUDA where it is named and there.

    A config that training dumped names the device of its machine: a GPU that is not here, ``mps``.

    Args:
        named: the config's.
        by_user: whether an override says so.

    Raises:
        ConfigError: it is no device, or the user asks for one that is not there.
    """
    try:
        kind, index = torch.device(named).type, torch.device(named).index or 0
    except RuntimeError:
        raise ConfigError(f"The device is {named!r}, expected cpu or cuda.") from None
    if kind == "cpu":
        return named
    if kind == "cuda" and torch.cuda.is_available():
        if index < torch.cuda.device_count():
            return named
        if not by_user:
            return "cuda"
    if by_user:
        raise ConfigError(
            f"The device is overridden to {named}, but torch {torch.__version__} sees no "
            f"{'CUDA' if kind == 'cuda' else 'such'} device that an export can use. Leave it out "
            "to export on the CPU: the program runs on either."
        )
    return "cpu"
