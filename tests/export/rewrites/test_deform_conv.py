"""Deformable convolutions: the formula, detectron2's own class, and every way."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino as ov
import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d, deform_conv
from detectron2.modeling.backbone import resnet
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as everybody names it

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.programs.openvino import from_onnx
from d2serve.export.rewrites.deform_conv.onnx_form import DEFORM_CONV_ONNX
from d2serve.export.rewrites.deform_conv.stand_ins import (
    DeformConv,
    ModulatedDeformConv,
    is_needed,
    standing_in,
)
from d2serve.export.rewrites.deform_conv.torchvision_form import (
    DEFORM_CONV,
    MODULATED_DEFORM_CONV,
    TorchvisionDeformConv,
)
from d2serve.export.rewrites.heads.fcos import FCOS_BOX_TRANSFORM, FCOS_HEAD
from d2serve.export.rewrites.rewrite import ONNX, SCRIPTING, TRACING, rewritten
from d2serve.export.rewrites.stand_ins import runnable
from tests.export.rewrites import small, ways

CASES: dict[str, dict[str, Any]] = {
    "v1": {"padding": 1},
    "v1_two_offset_groups": {"padding": 1, "stride": 2, "deformable_groups": 2},
    "modulated": {"padding": 1},
    "modulated_everything": {
        "kernel_size": (3, 2),
        "stride": 2,
        "padding": 2,
        "dilation": 2,
        "groups": 2,
        "deformable_groups": 4,
        "norm": True,
        "activation": F.relu,
    },
}


def layer(name: str) -> TorchvisionDeformConv:
    torch.manual_seed(0)
    options = {"kernel_size": 3, **CASES[name]}
    if options.pop("norm", False):
        options["norm"] = FrozenBatchNorm2d(6)
        options["norm"].running_mean.normal_()
    kind = ModulatedDeformConv if name.startswith("modulated") else DeformConv
    made = kind(8, 6, **options).eval()
    if made.bias is not None:
        nn.init.normal_(made.bias)
    return made


def arguments(module: TorchvisionDeformConv, height: int, width: int) -> tuple[Tensor, ...]:
    """Features, offsets that also leave the image, and masks where the module takes them."""
    generator = torch.Generator().manual_seed(height)
    kernel = module.weight.shape[2:]
    out = [
        (size + 2 * pad - dilation * (k - 1) - 1) // stride + 1
        for size, pad, dilation, k, stride in zip(
            (height, width), module.padding, module.dilation, kernel, module.stride
        )
    ]
    places = kernel[0] * kernel[1] * module.deformable_groups
    features = torch.randn((2, 8, height, width), generator=generator)
    offset = 3 * torch.randn((2, 2 * places, *out), generator=generator)
    if not isinstance(module, ModulatedDeformConv):
        return features, offset
    return features, offset, torch.rand((2, places, *out), generator=generator)


def formula(module: TorchvisionDeformConv, x: Any, offset: Any, mask: Any) -> Any:
    """arxiv.org/abs/1811.11168, equation 1, one output place and kernel place at a time."""
    weight = module.weight.detach().double().numpy()
    out_channels, in_group, rows, columns = weight.shape
    per_offset = x.shape[1] // module.deformable_groups
    out = np.zeros((x.shape[0], out_channels, *offset.shape[2:]))
    for n, i, j in itertools.product(range(x.shape[0]), *map(range, offset.shape[2:])):
        for row, column, g in itertools.product(
            range(rows), range(columns), range(module.deformable_groups)
        ):
            k = g * rows * columns + row * columns + column
            y = i * module.stride[0] - module.padding[0] + row * module.dilation[0]
            z = j * module.stride[1] - module.padding[1] + column * module.dilation[1]
            y, z = y + offset[n, 2 * k, i, j], z + offset[n, 2 * k + 1, i, j]
            channels = slice(g * per_offset, (g + 1) * per_offset)
            value = np.zeros(per_offset)
            for q, r in itertools.product(range(x.shape[2]), range(x.shape[3])):
                near = max(0, 1 - abs(q - y)) * max(0, 1 - abs(r - z))
                value = value + near * x[n, channels, q, r]
            value = value * (1 if mask is None else mask[n, k, i, j])
            for c, v in zip(range(g * per_offset, (g + 1) * per_offset), value):
                group = c // in_group
                own = slice(
                    group * out_channels // module.groups,
                    (group + 1) * out_channels // module.groups,
                )
                out[n, own, i, j] += weight[own, c % in_group, row, column] * v
    if module.bias is not None:
        out += module.bias.detach().double().numpy()[:, None, None]
    return out


@pytest.mark.parametrize("name", CASES)
def test_both_equivalents_follow_the_formula(name: str) -> None:
    module = layer(name)
    given = arguments(module, 5, 6)
    inputs = [tensor.double().numpy() for tensor in given]
    expected = formula(module, *inputs, *[None] * (3 - len(inputs)))
    plain, names = rewritten(module, ONNX, [DEFORM_CONV_ONNX])
    assert names == ("deform_conv_onnx",)
    for equivalent in (module, plain):
        convolved = equivalent.convolve(*given, *[None] * (3 - len(given)))  # type: ignore[operator]
        np.testing.assert_allclose(convolved.detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_every_way_at_another_size(name: str, tmp_path: Path) -> None:
    module = layer(name)
    first, other = arguments(module, 12, 17), arguments(module, 19, 9)
    with torch.no_grad():
        expected = module(*other)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        trace = torch.jit.trace(module, first, check_trace=False)  # type: ignore[no-untyped-call]
        script = torch.jit.script(module)
    with torch.no_grad():
        assert torch.equal(trace(*other), expected)
        assert torch.equal(script(*other), expected)
    names = ["x", "offset", "mask"][: len(first)]
    target = tmp_path / "layer.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            rewritten(module, ONNX, [DEFORM_CONV_ONNX])[0],
            first,
            str(target),
            opset_version=ways.OPSET,
            dynamo=False,
            input_names=names,
            dynamic_axes={n: {2: f"{n}_height", 3: f"{n}_width"} for n in names},
        )
    given = {n: tensor.numpy() for n, tensor in zip(names, other)}
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    compiled = ov.compile_model(from_onnx(target), "CPU", ways.OPENVINO)
    for got in (session.run(None, given)[0], compiled(given)[0]):
        np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)


@pytest.fixture(scope="module")
def upstream() -> Any:
    """detectron2's module as it is with compiled operators, which v1 does not use on a CPU."""
    before = sys.modules.get("detectron2._C")
    sys.modules["detectron2._C"] = types.ModuleType("detectron2._C")
    try:
        spec = importlib.util.spec_from_file_location(
            "detectron2.layers.deform_conv_compiled", deform_conv.__file__
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        if before is None:
            del sys.modules["detectron2._C"]
        else:
            sys.modules["detectron2._C"] = before
    return module


def test_equal_to_detectron2s_own(upstream: Any) -> None:
    torch.manual_seed(0)
    norm = FrozenBatchNorm2d(6)
    norm.running_mean.normal_()
    own = upstream.DeformConv(8, 6, 3, 2, 1, groups=2, norm=norm, activation=F.relu).eval()
    rewrite = dataclasses.replace(DEFORM_CONV, replaces=upstream.DeformConv)
    for way in (TRACING, SCRIPTING):
        made, names = rewritten(own, way, [rewrite])
        assert names == ("deform_conv",)
        assert list(made.state_dict()) == list(own.state_dict())
        assert made.weight is own.weight
        given = torch.randn(2, 8, 11, 14), 2 * torch.randn(2, 18, 6, 7)
        assert torch.equal(made(*given), own(*given))


def test_modulated_keeps_weights_and_sizes(upstream: Any) -> None:
    own = upstream.ModulatedDeformConv(8, 6, 3, 1, 1, deformable_groups=2)
    rewrite = dataclasses.replace(MODULATED_DEFORM_CONV, replaces=upstream.ModulatedDeformConv)
    made = rewritten(own, TRACING, [rewrite])[0]
    twin = ModulatedDeformConv(8, 6, 3, 1, 1, deformable_groups=2)
    twin.load_state_dict(own.state_dict())
    given = arguments(twin, 9, 8)
    assert torch.equal(made(*given), twin(*given))
    with pytest.raises(NotImplementedError):  # detectron2's own does not run on a CPU
        own(*given)


@pytest.mark.parametrize("method", ["forward", "convolve"])
def test_a_subclass_that_overrides_is_refused(method: str, upstream: Any) -> None:
    replaced = upstream.DeformConv if method == "forward" else DeformConv
    mine = type("MyConv", (replaced,), {method: lambda *_: None})
    rewrites = [dataclasses.replace(DEFORM_CONV, replaces=upstream.DeformConv), DEFORM_CONV_ONNX]
    with pytest.raises(UnsupportedFamily, match=rf"MyConv\.{method} .*overrides"):
        rewritten(mine(8, 6, 3), TRACING if method == "forward" else ONNX, rewrites)


def deformable(modulated: bool) -> Any:
    with standing_in():
        model = small.fcos(
            block=resnet.DeformBottleneckBlock, deform_modulated=modulated, deform_num_groups=2
        )
    for block in model.modules():
        if isinstance(block, resnet.DeformBottleneckBlock):
            nn.init.normal_(block.conv2_offset.weight, std=0.3)
    # On a CPU detectron2's own operator, where there is one, takes neither masks nor groups.
    return runnable(model, "cpu")[0]


@pytest.mark.parametrize("modulated", [False, True])
def test_a_model_traced_and_scripted(modulated: bool) -> None:
    model = deformable(modulated)
    first, *others = ways.images((96, 128), (64, 160), (130, 97))
    blank = model.pixel_mean.expand(3, 90, 70).contiguous()
    trace = ways.traced(model, first)
    script = ways.scripted(rewritten(model, SCRIPTING, [FCOS_HEAD, FCOS_BOX_TRANSFORM])[0])
    for batch in ([first], [*others], [*others, blank, first, blank]):
        expected = ways.eager(model, batch)
        assert len(expected[0]["scores"]) > 50
        for mine, theirs in zip(script(batch), expected):
            ways.assert_close(mine, theirs)
    for image in (*others, blank):
        ways.assert_close(trace(image), ways.eager(model, [image])[0])


@pytest.mark.skipif(not is_needed(), reason="this detectron2 has compiled operators")
def test_placeholders_come_back() -> None:
    before = resnet.DeformConv, deform_conv.ModulatedDeformConv
    with standing_in():
        assert resnet.DeformConv is DeformConv
        assert deform_conv.ModulatedDeformConv is ModulatedDeformConv
    assert (resnet.DeformConv, deform_conv.ModulatedDeformConv) == before
