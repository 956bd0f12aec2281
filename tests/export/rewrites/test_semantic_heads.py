"""Heads of detectron2's projects that label pixels: programs answer what they do, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ASPP
from detectron2.modeling import build_model
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.point_rend import add_pointrend_config
from detectron2.structures import ImageList
from torch import Tensor, nn

from d2serve.export.programs.device_scan import check_no_device
from d2serve.export.programs.onnx import write_onnx
from d2serve.export.programs.scripting import script
from d2serve.export.programs.tracing import trace
from d2serve.export.programs.unexportable import why_unexportable
from d2serve.export.rewrites.registry import exportable
from d2serve.export.rewrites.rewrite import ONNX, SCRIPTING, TRACING
from d2serve.handlers.spec.runtimes import RUNTIMES

MODELS = Path(__file__).resolve().parents[3] / "examples" / "shapes" / "models"
SIZES = ((128, 160), (100, 210), (20, 24))


def _config(name: str, *overrides: object) -> CfgNode:
    cfg = get_cfg()
    (add_deeplab_config if name.startswith("deeplab") else add_pointrend_config)(cfg)
    cfg.merge_from_file(str(MODELS / f"{name}.yaml"))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", *overrides])
    return cfg


def _trained(name: str) -> dict[str, Tensor]:
    state = torch.load(MODELS / f"{name}.pth", weights_only=True)["model"]
    return {key: value.float() for key, value in state.items()}


def _deeplab_v3() -> Any:
    torch.manual_seed(0)
    head = ("MODEL.SEM_SEG_HEAD.NAME", "DeepLabV3Head", "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res5"])
    model = build_model(
        _config("deeplab_v3plus", *head, "MODEL.SEM_SEG_HEAD.COMMON_STRIDE", 16)
    ).eval()
    trained = {k: v for k, v in _trained("deeplab_v3plus").items() if k.startswith("backbone")}
    model.load_state_dict(trained, strict=False)
    predictor = model.sem_seg_head.predictor
    nn.init.normal_(predictor.weight, std=20.0)
    with torch.no_grad():  # otherwise one label wins everywhere
        predictor.bias.sub_(_eager(model, _images()[0]).mean(dim=(1, 2)))
    return model


def _point_rend() -> Any:
    torch.manual_seed(0)
    point_head = {
        "NUM_CLASSES": 6,
        "COARSE_SEM_SEG_HEAD_NAME": "SemSegFPNHead",
        "IN_FEATURES": ["p3"],
        "SUBDIVISION_STEPS": 2,
        "SUBDIVISION_NUM_POINTS": 512,
        "FC_DIM": 32,
        "NUM_FC": 2,
    }
    named = [
        word for key, value in point_head.items() for word in (f"MODEL.POINT_HEAD.{key}", value)
    ]
    head = ("MODEL.SEM_SEG_HEAD.NAME", "PointRendSemSegHead")
    model = build_model(_config("semantic_fpn", *head, *named)).eval()
    trained = {
        key.replace("sem_seg_head.", "sem_seg_head.coarse_sem_seg_head."): value
        for key, value in _trained("semantic_fpn").items()
    }
    model.load_state_dict(trained, strict=False)
    nn.init.normal_(model.sem_seg_head.point_head.predictor.weight, std=1.0)
    return model


@pytest.fixture(scope="module", params=[_deeplab_v3, _point_rend], ids=["deeplab_v3", "point_rend"])
def model(request: pytest.FixtureRequest) -> Any:
    return request.param()


def _images() -> list[Tensor]:
    random = torch.Generator().manual_seed(3)
    coarse = [torch.rand((1, 3, 5, 6), generator=random) * 255 for _ in SIZES]
    return [
        nn.functional.interpolate(each, size=size, mode="bicubic")[0].clamp(0, 255)
        for each, size in zip(coarse, SIZES)
    ]


def _eager(model: Any, image: Tensor) -> Tensor:
    normal = (image - model.pixel_mean) / model.pixel_std
    batch = ImageList.from_tensors([normal], model.backbone.size_divisibility)
    with torch.no_grad():
        logits: Tensor = model.sem_seg_head(model.backbone(batch.tensor), None)[0][0]
    return logits


def _labels(model: Any) -> int:
    flat = torch.cat([_eager(model, image).argmax(0).flatten() for image in _images()])
    return len(set(flat.tolist()))


def test_scripted_and_traced_are_eagers_bits_at_every_size(model: Any) -> None:
    scripted = script(exportable(model, SCRIPTING)[0]).module
    traced = trace(exportable(model, TRACING)[0], ("sem_seg",), (_images()[0],))
    assert traced.doubts == ()
    for program in (scripted, traced.module):
        check_no_device(program)
    assert _labels(model) > 1
    for image in _images():
        expected = _eager(model, image)
        assert torch.equal(scripted([{"image": image}])[0]["sem_seg"], expected)
        assert torch.equal(traced.module(image)[0], expected)


def test_onnx_labels_as_eager_at_every_size(model: Any, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    write_onnx(exportable(model, ONNX)[0], ("sem_seg",), (_images()[0],), file, {})
    session = onnxruntime.InferenceSession(str(file))
    for image in _images():
        got = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
        assert torch.equal(got.argmax(0), _eager(model, image).argmax(0))


def test_a_pooling_window_that_does_not_divide_is_refused_by_programs_as_by_detectron2() -> None:
    crop = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [64, 64])
    model = build_model(_config("deeplab_v3plus", *crop)).eval()
    assert any(module.pool_kernel_size for module in model.modules() if isinstance(module, ASPP))
    fits, does_not = torch.rand(3, 64, 128) * 255, torch.rand(3, 100, 128) * 255
    scripted = script(exportable(model, SCRIPTING)[0]).module
    traced = trace(exportable(model, TRACING)[0], ("sem_seg",), (fits,)).module
    expected = _eager(model, fits)
    assert torch.equal(scripted([{"image": fits}])[0]["sem_seg"], expected)
    assert torch.equal(traced(fits)[0], expected)
    with pytest.raises(ValueError, match="must be divisible"):
        _eager(model, does_not)
    with pytest.raises(torch.jit.Error, match=r"INPUT\.CROP\.SIZE"):
        scripted([{"image": does_not}])
    with pytest.raises(torch.jit.Error, match=r"INPUT\.CROP\.SIZE"):
        traced(does_not)
    for name, facts in RUNTIMES.items():
        reason = why_unexportable(model, facts, facts.methods[0])
        assert (reason is None) == (name == "torchscript")
        # torch.export takes no model of this kind at all.
        assert reason is None or name == "torch_export" or "sem_seg_head" in reason
