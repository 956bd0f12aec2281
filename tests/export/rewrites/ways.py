"""The ways to a program on a small model, and how far each is from the eager model.

Only what a rewrite is about: raw instances of one image or a batch, without archives and specs.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino as ov
import torch
from detectron2.export import scripting_with_instances
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from d2serve.export.programs.openvino import from_onnx

Fields = dict[str, Tensor]
Program = Callable[[Tensor], Fields]
BatchProgram = Callable[[Sequence[Tensor]], list[Fields]]

OPSET = 17
OPENVINO = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
_FIELDS = {
    "proposal_boxes": Boxes,
    "objectness_logits": Tensor,
    "pred_boxes": Boxes,
    "scores": Tensor,
    "pred_classes": Tensor,
    "pred_masks": Tensor,
}


class _OneImage(nn.Module):
    """(3, H, W) in, the raw instances' fields by name out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        with patch_builtin_len():
            fields = _raw(self.model, [image])[0].get_fields()
        return tuple(_tensor(fields[name]) for name in sorted(fields))


class _BatchOfRcnn(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        instances = self.model.inference(inputs, None, False)  # type: ignore[operator]
        return [i.get_fields() for i in instances]


class _BatchOfDense(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        instances = self.model(inputs)
        return [i.get_fields() for i in instances]


def eager(model: nn.Module, images: Sequence[Tensor]) -> list[Fields]:
    """Raw instances of a batch."""
    with torch.no_grad():
        found = _raw(model, images)
    return [{k: _tensor(v) for k, v in i.get_fields().items()} for i in found]


def traced(model: nn.Module, image: Tensor) -> Program:
    """A trace made on one image."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        module = torch.jit.trace(_OneImage(model), (image,), check_trace=False)  # type: ignore[no-untyped-call]
    names = sorted(eager(model, [image])[0])
    return lambda image: dict(zip(names, module(image)))


def scripted(model: nn.Module) -> BatchProgram:
    """A scripted program, which takes a batch of any length."""
    wrapper = _BatchOfRcnn if isinstance(model, GeneralizedRCNN) else _BatchOfDense
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = scripting_with_instances(wrapper(model).eval(), _FIELDS)

    def run(images: Sequence[Tensor]) -> list[Fields]:
        with torch.no_grad():
            return list(module([{"image": image} for image in images]))

    return run


@dataclass(frozen=True)
class OnnxPrograms:
    """One ONNX file in both runtimes."""

    onnxruntime: Program
    openvino: Program


def onnx_programs(model: nn.Module, image: Tensor, folder: Path) -> OnnxPrograms:
    """An ONNX file made on one image, height and width dynamic."""
    names = sorted(eager(model, [image])[0])
    target = folder / "program.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _OneImage(model),
            (image,),
            str(target),
            opset_version=OPSET,
            dynamo=False,
            input_names=["image"],
            output_names=names,
            dynamic_axes={
                "image": {1: "height", 2: "width"},
                **{n: {0: "instances"} for n in names},
            },
        )
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    compiled = ov.compile_model(from_onnx(target), "CPU", OPENVINO)

    def run_ort(image: Tensor) -> Fields:
        found = session.run(names, {"image": image.numpy()})
        return {n: torch.from_numpy(v) for n, v in zip(names, found)}

    def run_ov(image: Tensor) -> Fields:
        found = compiled({"image": image.numpy()})
        return {n: torch.from_numpy(np.array(found[n])) for n in names}

    return OnnxPrograms(run_ort, run_ov)


def difference(got: Fields, expected: Fields) -> dict[str, float]:
    """The largest difference of each field; counts and classes have to be equal.

    Rows are paired by class and box, since two scores equal but for rounding may change places.
    """
    assert sorted(got) == sorted(expected)
    for name, tensor in expected.items():
        assert len(got[name]) == len(tensor), (name, got[name].shape, tensor.shape)
    apart = (got["pred_boxes"][None] - expected["pred_boxes"][:, None]).abs().sum(2)
    apart += (got["scores"][None] - expected["scores"][:, None]).abs()
    apart[got["pred_classes"][None] != expected["pred_classes"][:, None]] = float("inf")
    partner = apart.argmin(1) if len(apart) else torch.zeros(0, dtype=torch.long)
    assert len(set(partner.tolist())) == len(partner), "not the same instances"
    return {
        name: float((got[name][partner] - tensor).abs().max()) if tensor.numel() else 0.0
        for name, tensor in expected.items()
    }


def assert_close(got: Fields, expected: Fields, **tolerances: float) -> None:
    """Each field within its tolerance; exactly equal, row by row, where none is given."""
    if not tolerances:
        assert sorted(got) == sorted(expected)
        for name, tensor in expected.items():
            same = torch.equal(got[name], tensor)
            assert same or len(got[name]) == len(tensor) == 0, name  # no rows: any mask size
        return
    for name, value in difference(got, expected).items():
        assert value <= tolerances.get(name, 0.0), (name, value)


def images(*sizes: tuple[int, int], seed: int = 0) -> list[Tensor]:
    """Smooth noise of the given heights and widths, 0 to 255."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for height, width in sizes:
        coarse = torch.rand((1, 3, height // 8 + 2, width // 8 + 2), generator=generator) * 255
        made.append(nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0])
    return made


def _raw(model: Any, images: Sequence[Tensor]) -> list[Instances]:
    inputs = [{"image": image} for image in images]
    if isinstance(model, GeneralizedRCNN):
        return list(model.inference(inputs, do_postprocess=False))
    batch = model.preprocess_image(inputs)
    features = model.backbone(batch.tensor)
    features = [features[name] for name in model.head_in_features]
    return list(model.forward_inference(batch, features, model.head(features)))


def _tensor(value: Any) -> Tensor:
    tensor: Tensor = value.tensor if isinstance(value, Boxes) else value
    return tensor
