"""The full-size model, with random weights that find something.

Trained weights would have to be downloaded, and plain random ones find nothing: every score is 1/81
and every mask is flat.

So the weights are random and seeded, and the last layer of each head is then scaled on the picture
that will be sent, as LSUV initialisation does for every layer (Mishkin & Matas, "All you need is a
good init", 2015): objectness ranks anchors, boxes move a little, classes compete, masks have holes.
The computation is that of a trained model of the same config; only what it finds means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import transforms
from detectron2.model_zoo import get_config_file
from detectron2.modeling import build_model
from torch import nn

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "model.pth"


@dataclass(frozen=True)
class HeadTarget:
    """What a layer's outputs should look like over the picture, each channel by itself."""

    layer: str
    mean: float
    std: float


_TARGETS = (
    HeadTarget("proposal_generator.rpn_head.objectness_logits", 0.0, 2.0),
    HeadTarget("proposal_generator.rpn_head.anchor_deltas", 0.0, 0.15),
    HeadTarget("roi_heads.box_predictor.cls_score", 0.0, 1.5),
    HeadTarget("roi_heads.box_predictor.bbox_pred", 0.0, 0.8),
    # Steep at the threshold, as trained masks are: else rounding decides many pixels.
    HeadTarget("roi_heads.mask_head.predictor", 4.5, 3.0),
)


@dataclass(frozen=True)
class SavedModel:
    """A config and its weights, as files."""

    config: Path
    weights: Path


def save_random_model(
    folder: Path,
    zoo_name: str,
    overrides: Sequence[str | int],
    picture: npt.NDArray[np.uint8],
    seed: int,
) -> SavedModel:
    """Write the config of a model-zoo model and random weights that detect something.

    Args:
        folder: where both files go.
        zoo_name: as in ``model_zoo.get_config_file``.
        overrides: ``KEY VALUE`` pairs.
        picture: (H, W, 3) uint8 in RGB order, on which the heads are scaled.
        seed: of the weights.
    """
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(zoo_name))
    cfg.merge_from_list(list(overrides))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    torch.manual_seed(seed)
    model: nn.Module = build_model(cfg).eval()
    with torch.inference_mode(), scaled_heads(model, _TARGETS):
        model.inference([{"image": model_input(cfg, picture)}])  # type: ignore[operator]
    saved = SavedModel(folder / CONFIG_FILE, folder / WEIGHTS_FILE)
    saved.config.write_text(cfg.dump(), encoding="utf-8")
    torch.save({"model": model.state_dict()}, saved.weights)
    return saved


def model_input(cfg: CfgNode, picture: npt.NDArray[np.uint8]) -> torch.Tensor:
    """The tensor that DefaultPredictor gives to the model for an RGB picture."""
    resize = transforms.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
    ordered = picture if cfg.INPUT.FORMAT == "RGB" else picture[:, :, ::-1]
    resized = resize.get_transform(ordered).apply_image(ordered)
    return torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))


@contextmanager
def scaled_heads(model: nn.Module, targets: Sequence[HeadTarget]) -> Iterator[None]:
    """While this lasts, each layer is scaled when it is first called, before its output goes on."""
    scaled: set[str] = set()

    def hook_for(target: HeadTarget) -> torch.utils.hooks.RemovableHandle:
        def scale(layer: nn.Module, inputs: tuple[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
            if target.layer in scaled:
                return out
            scaled.add(target.layer)
            channels = [axis for axis in range(out.ndim) if axis != 1]
            factor = target.std / out.std(channels).clamp(min=1e-12)
            shape = (-1,) + (1,) * (layer.weight.ndim - 1)  # type: ignore[operator]
            layer.weight.mul_(factor.view(shape))  # type: ignore[operator]
            layer.bias.copy_(target.mean - out.mean(channels) * factor)  # type: ignore[operator]
            return layer.forward(*inputs)  # type: ignore[no-any-return]

        return model.get_submodule(target.layer).register_forward_hook(scale)

    handles = [hook_for(target) for target in targets]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
