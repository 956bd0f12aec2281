"""Weights come through detectron2's own loader, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from d2serve.export.errors import ConfigError, WeightsError
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.weights import load_model


def read(config: Path, *overrides: str) -> ModelConfig:
    return load_config(ConfigSource(str(config), overrides))


def test_the_weights_are_loaded(tiny_config: Path) -> None:
    model = load_model(read(tiny_config))
    saved = torch.load(tiny_config.with_name("tiny.pth"), weights_only=True)["model"]
    assert not model.training
    assert torch.equal(
        model.state_dict()["backbone.fpn_lateral2.weight"], saved["backbone.fpn_lateral2.weight"]
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.WEIGHTS", ""], r"names no weights.*: MODEL\.WEIGHTS output"),
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
        load_model(read(tiny_config, *overrides))


def test_a_file_that_is_no_checkpoint_is_named(tiny_config: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=r"model\.pth is text, which begins with 'not a"):
        load_model(read(tiny_config, "MODEL.WEIGHTS", str(file)))


def test_a_config_that_cannot_be_built_is_named(tiny_config: Path) -> None:
    config = read(tiny_config, "MODEL.ROI_BOX_HEAD.NAME", "NoSuchHead")
    with pytest.raises(ConfigError, match=r"NoSuchHead.*--import"):
        load_model(config)
