"""A small model with seeded random weights, for tests that need a model but no accuracy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2 import model_zoo
from detectron2.modeling import build_model

TINY = [
    *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", 8, "MODEL.FPN.OUT_CHANNELS", 16),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.RESNETS.STEM_OUT_CHANNELS", 16),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16),
    *("INPUT.MIN_SIZE_TEST", 96, "INPUT.MAX_SIZE_TEST", 160, "MODEL.ROI_HEADS.NUM_CLASSES", 3),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "DATASETS.TEST", (), "DATASETS.TRAIN", ()),
    *("TEST.DETECTIONS_PER_IMAGE", 20),
]


def write_tiny_config(folder: Path, *overrides: object) -> Path:
    """A Faster R-CNN config and its weights; returns the YAML file."""
    cfg = model_zoo.get_config("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    cfg.merge_from_list([*TINY, *overrides])
    cfg.MODEL.WEIGHTS = str(folder / "tiny.pth")
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():  # far apart, so that no two scores tie
        model.roi_heads.box_predictor.cls_score.weight.mul_(60)
    torch.save({"model": model.state_dict()}, cfg.MODEL.WEIGHTS)
    config = folder / "tiny.yaml"
    config.write_text(cfg.dump())
    return config


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Config of a tiny Faster R-CNN FPN with 3 classes and random weights."""
    return write_tiny_config(tmp_path_factory.mktemp("tiny"))
