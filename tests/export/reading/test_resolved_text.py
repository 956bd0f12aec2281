"""The text of a config is the same for the same model, wherever its weights lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config

YAML = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
LAZY = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py"


@pytest.mark.parametrize(
    ("config", "weights", "changed"),
    [
        (YAML, ["MODEL.WEIGHTS", "elsewhere/w.pth"], ["MODEL.RPN.NMS_THRESH", "0.6"]),
        (LAZY, ["train.init_checkpoint=elsewhere/w.pth"], ["model.roi_heads.num_classes=3"]),
    ],
)
def test_weights_are_left_out_and_the_rest_is_in(
    config: str, weights: list[str], changed: list[str]
) -> None:
    text = load_config(ConfigSource(config)).resolved
    assert load_config(ConfigSource(config, weights)).resolved == text
    assert load_config(ConfigSource(config, changed)).resolved != text
    assert "elsewhere" not in load_config(ConfigSource(config, weights)).resolved
    assert " at 0x" not in text


def test_a_lazy_config_names_its_classes(tmp_path: Path) -> None:
    text = load_config(ConfigSource(LAZY)).resolved
    assert "detectron2.modeling.meta_arch.rcnn.GeneralizedRCNN" in text
    again = tmp_path / "again.py"
    again.write_text(
        "from detectron2 import model_zoo\n"
        f"config = model_zoo.get_config({LAZY!r})\n"
        "dataloader, model, train = config.dataloader, config.model, config.train\n"
        "optimizer, lr_multiplier = config.optimizer, config.lr_multiplier\ndel config\n"
    )
    assert load_config(ConfigSource(str(again))).resolved == text
