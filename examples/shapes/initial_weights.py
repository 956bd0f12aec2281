"""Lets the models start from one that is trained, which makes their training several times shorter.

They share one backbone, but detectron2 names its weights by where it sits: inside a feature
pyramid, alone, or with its last stage in the ROI heads. Cascade R-CNN has the box head three times.
This module translates the names.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

_STEM_WEIGHT = "stem.conv1.weight"
_PYRAMID_PREFIX = "backbone.bottom_up."
_BOX_PREFIXES = ("roi_heads.box_head.", "roi_heads.box_predictor.")
_BOX_DELTAS = ("roi_heads.box_predictor.bbox_pred.weight", "roi_heads.box_predictor.bbox_pred.bias")
_CASCADE_STAGES = 3


def transfer_weights(
    source: Mapping[str, torch.Tensor],
    model: torch.nn.Module,
    *,
    swap_colours: bool = False,
) -> int:
    """Copy into ``model`` every weight of ``source`` that has a counterpart of the same shape.

    ``source`` is the state of a model with a feature pyramid. ``swap_colours`` turns the first
    convolution around for a model that reads RGB where the source reads BGR, or the reverse.
    Box deltas of each class become their mean for a model with one set of them for all classes.
    A model with another kind of backbone gets the heads. Returns how many tensors were copied;
    ValueError if there is none.
    """
    wanted = model.state_dict()
    found: dict[str, torch.Tensor] = {}
    for name, tensor in source.items():
        turned = swap_colours and name.endswith(_STEM_WEIGHT)
        for candidate in _possible_names(name):
            if candidate not in wanted:
                continue
            value = tensor.flip(1) if turned else tensor
            if name in _BOX_DELTAS and len(wanted[candidate]) == 4:
                value = value.reshape(-1, 4, *value.shape[1:]).mean(dim=0)
            if wanted[candidate].shape == value.shape:
                found[candidate] = value
    if not found:
        raise ValueError(
            "no tensor of the initial weights has a counterpart in this model: "
            "their names or shapes differ throughout"
        )
    model.load_state_dict(found, strict=False)
    return len(found)


def _possible_names(name: str) -> list[str]:
    for prefix in _BOX_PREFIXES:
        if name.startswith(prefix):
            inner = name.removeprefix(prefix)
            return [name, *(f"{prefix}{stage}.{inner}" for stage in range(_CASCADE_STAGES))]
    if not name.startswith(_PYRAMID_PREFIX):
        return [name]
    inner = name.removeprefix(_PYRAMID_PREFIX)
    return [name, f"backbone.{inner}", f"roi_heads.{inner}"]
