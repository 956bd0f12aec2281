"""Every example model is complete: config, weights that fit it, and a measured result."""

from __future__ import annotations

import json

import pytest
import torch

from d2serve.export.rewrites.stand_ins import buildable
from examples.shapes.dataset import belongs_to
from examples.shapes.recipes import (
    MODEL_NAMES,
    MODELS_FOLDER,
    ROTATED_MODEL,
    config_file,
    recipe_of,
)
from examples.shapes.schema import SPLITS


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_weights_fit_the_model(name: str) -> None:
    if name in ("vitdet", "mvitv2_cascade"):
        pytest.importorskip("timm", reason="detectron2's ViT and MViT need timm")
    recipe = recipe_of(name)
    state = torch.load(recipe.weights, weights_only=True)["model"]
    with buildable():
        wanted = recipe.model().state_dict()
    assert state.keys() == wanted.keys()
    assert all(state[key].shape == tensor.shape for key, tensor in wanted.items())
    assert recipe.weights.stat().st_size < 10e6


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_its_data_sets_are_ones_that_can_be_generated(name: str) -> None:
    trained, measured = recipe_of(name).datasets
    splits = [split for split in SPLITS if belongs_to(trained, split)]
    assert splits
    assert splits[0].endswith("train")
    assert [split for split in SPLITS if belongs_to(measured, split)]


def test_each_has_a_result() -> None:
    rows = json.loads((MODELS_FOLDER / "results.json").read_text())
    assert {row["model"] for row in rows} == {*MODEL_NAMES, ROTATED_MODEL}


def test_all_together_are_small() -> None:
    assert sum(file.stat().st_size for file in MODELS_FOLDER.glob("*.pth")) < 100e6


def test_unknown_models_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="mask_rcnn_fpn, faster_rcnn_fpn"):
        config_file("resnet")
