"""Weights come through detectron2's own loader, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.data import MetadataCatalog

from d2serve.export.config import load_config
from d2serve.export.errors import ConfigError, WeightsError
from d2serve.export.loading import class_names, load_model


def test_the_weights_are_loaded(tiny_config: Path) -> None:
    model = load_model(load_config(str(tiny_config), []))
    saved = torch.load(tiny_config.with_name("tiny.pth"), weights_only=True)["model"]
    assert not model.training
    assert torch.equal(
        model.state_dict()["backbone.fpn_lateral2.weight"], saved["backbone.fpn_lateral2.weight"]
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.WEIGHTS", ""], "MODEL.WEIGHTS is empty"),
        (["MODEL.WEIGHTS", "no/such.pth"], r"no/such.pth cannot be loaded"),
        (["MODEL.WEIGHTS", "http://127.0.0.1:9/model.pkl"], r"127.0.0.1:9.*cannot be loaded"),
        (["MODEL.ROI_HEADS.NUM_CLASSES", "80"], r"does not fit the config: 4 tensors differ"),
        (["MODEL.MASK_ON", "True"], r"mask_head.*is missing"),
    ],
)
def test_weights_that_would_answer_at_random_are_refused(
    tiny_config: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        load_model(load_config(str(tiny_config), overrides))


def test_a_file_that_is_no_checkpoint_is_named(tiny_config: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_model(load_config(str(tiny_config), ["MODEL.WEIGHTS", str(file)]))


def test_a_config_that_cannot_be_built_is_named(tiny_config: Path) -> None:
    cfg = load_config(str(tiny_config), ["MODEL.ROI_BOX_HEAD.NAME", "NoSuchHead"])
    with pytest.raises(ConfigError, match=r"NoSuchHead.*--import"):
        load_model(cfg)


def test_class_names_come_from_the_metadata_or_the_user(tiny_config: Path) -> None:
    MetadataCatalog.get("three_things").set(thing_classes=["a", "b", "c"])
    with_metadata = load_config(str(tiny_config), ["DATASETS.TEST", "('three_things',)"])
    without = load_config(str(tiny_config), [])
    assert class_names(with_metadata, 3, None) == ("a", "b", "c")
    assert class_names(with_metadata, 80, None) is None
    assert class_names(without, 3, None) is None
    assert class_names(without, 3, ["x", "y", "z"]) == ("x", "y", "z")
    with pytest.raises(ConfigError, match="2 names, the model has 3 classes"):
        class_names(without, 3, ["x", "y"])
