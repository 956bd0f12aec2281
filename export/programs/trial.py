"""Tries in seconds how modules of a user's own take to a way of export, on random weights.

What is known is left out where it can be: a backbone of detectron2's gives way to random features
of its shapes, and images are small. The program is asked beside the model it was made of, at sizes
and with numbers of objects on either side of what the doubtful lines compare with.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.errors import ExportError, one_line
from d2serve.export.programs.caffe2.refusals import why_lost
from d2serve.export.programs.caffe2.writing import graph_of
from d2serve.export.programs.device_scan import check_no_device
from d2serve.export.programs.doubting.doubts import Doubt
from d2serve.export.programs.onnx import write_onnx
from d2serve.export.programs.torchscript_errors import where_in_user_code
from d2serve.export.programs.tracing import (
    TorchScriptProgram,
    TraceableModel,
    program_inputs,
    trace,
)
from d2serve.export.reading.family import Family
from d2serve.handlers.spec.runtimes import CAFFE2, ONNX

# (height, width) of the images of a trial, and how bright they are.
_FIRST = ((128, 160), (512, 640))
_OTHERS = (((96, 224), 90.0), ((192, 64), 200.0))
# Pixels: the short side of an image with a long one, and the longest that a trial takes.
_SHORT, _LONGEST = 64, 4096
_LARGEST_SQUARE = 256
# What heads are run on.
_PROPOSALS, _INSTANCES = 100, 20
_TOLERANCE = 1e-3


TrialImage = Mapping[str, Union[Tensor, int]]
"""The dict of an image, as a model gets it."""


@dataclass(frozen=True)
class Tried:
    """How a model took to being traced."""

    refusal: str | None
    doubts: tuple[Doubt, ...] = ()


def try_tracing(
    model: nn.Module, family: Family, channels: int, way: str, own: Sequence[str]
) -> Tried:
    """Trace a model on a small image, and compare the program with it on others.

    Args:
        model: of ``rewrites.registry.exportable``, on random weights; it is changed.
        family: what it is, with what it answers.
        channels: of its images.
        way: TRACING, ONNX or CAFFE2.
        own: paths of the user's own modules.
    """
    if way == CAFFE2:  # tracing it takes seconds, and does not ask what it answers
        return _try_caffe2(model, family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make_small(model, channels, own)
        eager = TraceableModel(model, family.program_outputs)
        inputs, problem = _inputs_that_work(eager, family, channels)
        if inputs is None:
            return Tried(problem)
        try:
            made = trace(model, family.program_outputs, inputs)
            if way != ONNX:
                check_no_device(made.module)
            difference = _difference(eager, family, channels, made)
            if difference is None and way == ONNX:
                with tempfile.TemporaryDirectory(prefix="d2serve-trial-") as folder:
                    file = Path(folder, "x.onnx")
                    write_onnx(model, family.program_outputs, inputs, file, {}, family.extras)
        except ExportError as error:
            return Tried(str(error))
        return Tried(difference, made.doubts)


def _try_caffe2(model: nn.Module, family: Family) -> Tried:
    lost = why_lost(family)
    return Tried(lost) if lost is not None else Tried(None, graph_of(model)[0].doubts)


def trial_image(
    channels: int, size: tuple[int, int] = _FIRST[0], brightness: float = 255.0
) -> TrialImage:
    """A random image as a model gets it: its values are from 0 to ``brightness``."""
    height, width = size
    image = torch.rand(channels, height, width) * brightness
    return {"image": image, "height": height * 5 // 4, "width": width * 5 // 4}


def _inputs_that_work(
    eager: TraceableModel, family: Family, channels: int
) -> tuple[tuple[Tensor, ...] | None, str | None]:
    problem = None
    for size in _FIRST:
        inputs = program_inputs(trial_image(channels, size), family.postprocessed)
        try:
            with torch.no_grad():
                eager(*inputs)
        except Exception as error:  # the user's code raises what it likes
            problem = (
                f"The model fails before it is exported, on an image of {size[0]}x{size[1]} with "
                f"random weights: {where_in_user_code(error)}{type(error).__name__}: "
                f"{one_line(error)}. Make eager detectron2 answer with it first."
            )
        else:
            return inputs, None
    return None, problem


def doubts_in_words(doubts: Sequence[Doubt]) -> str:
    """Where the doubts are, and what to do about them."""
    places = "; ".join(str(doubt) for doubt in doubts)
    return (
        f"A trace makes constants of what depends on the image, at {places}. "
        "Compute it with torch operators there, or try --export-method scripting."
    )


def _difference(
    eager: TraceableModel, family: Family, channels: int, made: TorchScriptProgram
) -> str | None:
    for size, brightness in (*_OTHERS, *_provoking(made.doubts)):
        inputs = program_inputs(trial_image(channels, size, brightness), family.postprocessed)
        with torch.no_grad():
            try:
                expected = eager(*inputs)
            except Exception:  # too small for the model, say: that proves nothing
                continue
            try:
                got = made.module(*inputs)
                differing = [
                    n for n, e, g in zip(family.program_outputs, expected, got) if _apart(e, g)
                ]
                problem = f"{', '.join(differing)} differ" if differing else None
            except Exception as error:  # TorchScript raises several kinds
                problem = f"it fails ({_last_line(error)})"
        if problem is not None:
            advice = (
                doubts_in_words(made.doubts) if made.doubts else "Try --export-method scripting."
            )
            return (
                f"The traced program is not the model: on an image of {size[0]}x{size[1]} with "
                f"random weights {problem}. {advice}"
            )
    return None


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:200]


def _apart(expected: Tensor, got: Tensor) -> bool:
    if expected.shape != got.shape:
        return True
    return not torch.allclose(
        expected.double(), got.double(), rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True
    )


def _provoking(doubts: Sequence[Doubt]) -> Iterator[tuple[tuple[int, int], float]]:
    limits = sorted({limit for doubt in doubts for limit in doubt.thresholds})
    for limit in limits:
        side = int(limit) + _SHORT
        if _FIRST[0][0] < side <= _LONGEST:
            yield (_SHORT, side), 255.0
            yield (side, _SHORT), 255.0


def make_small(model: nn.Module, channels: int, own: Sequence[str]) -> None:
    """Let random features take the place of a backbone, unless it is of the user's own.

    Args:
        model: is changed.
        channels: of its images.
        own: paths of the user's own modules.
    """
    whole: Any = model
    backbone = getattr(whole, "backbone", None)
    if isinstance(backbone, nn.Module) and not any(_lies_in("backbone", path) for path in own):
        whole.backbone = _Features(backbone, channels)
    for module in model.modules():
        each: Any = module
        if getattr(each, "_square_pad", 0) > _LARGEST_SQUARE:  # ViTDet's pyramid
            each._square_pad = _LARGEST_SQUARE
        if isinstance(getattr(each, "post_nms_topk", None), dict):  # RPN
            each.post_nms_topk = dict.fromkeys(each.post_nms_topk, _PROPOSALS)
        if getattr(each, "test_topk_per_image", 0) > _INSTANCES:  # FastRCNNOutputLayers
            each.test_topk_per_image = _INSTANCES


def _lies_in(outer: str, path: str) -> bool:
    return path in ("", outer) or path.startswith(f"{outer}.")


class _Features(nn.Module):
    """Stands for a backbone: random features of its shapes, which follow the image."""

    def __init__(self, backbone: Any, channels: int) -> None:
        super().__init__()
        self._shapes: dict[str, ShapeSpec] = backbone.output_shape()
        self.size_divisibility = backbone.size_divisibility
        square = backbone.padding_constraints.get("square_size", 0)
        self.padding_constraints = dict(backbone.padding_constraints)
        if square > _LARGEST_SQUARE:
            self.padding_constraints["square_size"] = _LARGEST_SQUARE
        for name, shape in self._shapes.items():
            self.register_buffer(f"weight_{name}", torch.randn(shape.channels, channels, 1, 1))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """As the backbone's."""
        return self._shapes

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, channels, H, W) to features by name."""
        features = {}
        for name, shape in self._shapes.items():
            small = functional.avg_pool2d(x, shape.stride, ceil_mode=True)
            features[name] = functional.conv2d(small, getattr(self, f"weight_{name}"))
        return features
