"""A network in Caffe2's operators answers as the model it was written of, on trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data.transforms import ResizeShortestEdge
from torch import Tensor, nn

from d2serve.export.programs.caffe2.writing import write_caffe2
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.samples import base_of, builtin_sample
from d2serve.export.reading.weights import load_model
from d2serve.export.rewrites.registry import exportable
from d2serve.handlers.netdef.detection import DetectionNetwork
from d2serve.handlers.netdef.files import NET_FILE, WEIGHTS_FILE
from d2serve.handlers.netdef.messages import NetDef, decode
from d2serve.handlers.spec.output_names import BOXES, SCORES, SEM_SEG
from d2serve.handlers.spec.runtimes import CAFFE2, TRACING
from tests.exports import config_of, source_of
from tests.ways import FAMILIES, MODELS

WRITTEN = [*MODELS, *(model for model, kinds in FAMILIES.items() if CAFFE2 in kinds)]
# One of each form and of each way to pool; `make test` exports others by tests/ways.py.
IN_THE_GATE = ("mask_rcnn_fpn", "retinanet")
TOLERANCE = 1e-3
"""Of a box in pixels, and of heat maps and logits, which are numbers of that size."""


def images(config: ModelConfig) -> list[Tensor]:
    """Resized images with many objects; their sides are no multiples of what is padded to."""
    sample = base_of(builtin_sample())
    made = []
    for pixels in (sample, sample[: sample.shape[0] // 2]):
        short, long = config.min_size_test, config.max_size_test
        resized = ResizeShortestEdge([short - 5] * 2, long).get_transform(pixels)
        channels = resized.apply_image(pixels).astype("float32").transpose(2, 0, 1)
        made.append(torch.from_numpy(channels.copy()))
    return made


def compared(model: nn.Module, config: ModelConfig, folder: Path) -> int:
    """Write a model, compare its network with it, and count what was compared."""
    write_caffe2(model, folder)
    network = DetectionNetwork.load(folder)
    eager, _ = exportable(model, TRACING)
    count = 0
    for image in images(config):
        with torch.no_grad():
            expected = eager([{"image": image}])[0]
        got = network.answer(image)
        if BOXES in got:
            order = got[SCORES].argsort(descending=True, stable=True)
            got = {name: each if name == SEM_SEG else each[order] for name, each in got.items()}
            torch.testing.assert_close(got[SCORES], expected[SCORES], atol=1e-4, rtol=0)
            count += len(order)
        for name, value in got.items():
            torch.testing.assert_close(value, expected[name], atol=TOLERANCE, rtol=0)
            count += name == SEM_SEG
    return count


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(each, marks=() if each in IN_THE_GATE else (pytest.mark.long,))
        for each in WRITTEN
    ],
)
def test_every_family_answers_as_eager_detectron2(model: str, tmp_path: Path) -> None:
    config = load_config(source_of(model))
    assert compared(load_model(config), config, tmp_path) >= (2 if model == "semantic_fpn" else 20)


def test_settings_that_other_configs_have(tmp_path: Path) -> None:
    """What the example models leave at detectron2's defaults, and what upstream's tracer refuses:
    two levels to pool from, and other weights of the deltas."""
    overrides = {
        "MODEL.ROI_HEADS.IN_FEATURES": "['p3', 'p4']",
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign",
        "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": "2",
        "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": "True",
        "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": "(10.0, 10.0, 4.0, 6.0)",
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.3",
        "MODEL.RPN.BBOX_REG_WEIGHTS": "(1.0, 2.0, 1.5, 1.0)",
        "MODEL.RPN.POST_NMS_TOPK_TEST": "120",
        "MODEL.ANCHOR_GENERATOR.OFFSET": "0.5",
        "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": "12",
        "TEST.DETECTIONS_PER_IMAGE": "15",
    }
    told = tuple(part for pair in overrides.items() for part in pair)
    config = load_config(ConfigSource(str(config_of("mask_rcnn_fpn")), overrides=told))
    assert compared(load_model(config), config, tmp_path) >= 20


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, NetDef, NetDef]:
    """A Mask R-CNN and the two networks that it was written as."""
    folder = tmp_path_factory.mktemp("caffe2")
    model = load_model(load_config(source_of("mask_rcnn_fpn")))
    write_caffe2(model, folder)
    read = [decode(NetDef, (folder / name).read_bytes()) for name in (NET_FILE, WEIGHTS_FILE)]
    return model, read[0], read[1]


def test_names_are_those_of_upstreams_tracer(networks: Any) -> None:
    _, predict, init = networks
    assert predict.external_input[:2] == ("data", "im_info")
    assert predict.external_output == ("bbox_nms", "score_nms", "class_nms", "mask_fcn_probs")
    told = {each.name: each.s or each.i for each in predict.arg}
    assert told == {
        "size_divisibility": 32,
        "device": b"cpu",
        "meta_architecture": b"GeneralizedRCNN",
    }
    assert predict.external_input[2:] == init.external_output
    assert {each.type for each in init.op} == {"GivenTensorFill"}


def test_every_operator_says_of_which_module_it_is(networks: Any) -> None:
    model, predict, init = networks
    modules = dict(model.named_modules())
    of_the_image = {each.type for each in predict.op if not each.name}
    assert of_the_image == {"Sub", "Div"}
    assert {each.name for each in predict.op if each.name} <= set(modules)
    assert "backbone.bottom_up.stem.conv1.weight" in init.external_output


def test_a_blob_is_written_once(networks: Any) -> None:
    """As Caffe2 may run operators in any order that the blobs allow."""
    _, predict, _ = networks
    made = [name for each in predict.op for name in each.output]
    assert len({*made, *predict.external_input}) == len(made) + len(predict.external_input)


def test_batch_norms_are_part_of_convolutions(networks: Any) -> None:
    _, predict, _ = networks
    assert "Mul" not in {each.type for each in predict.op}
    assert not any("norm" in str(name) for each in predict.op for name in each.input)
