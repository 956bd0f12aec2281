"""Every operator answers what Caffe2's own answers, and says what of it is not run.

The answers of Caffe2 were recorded by record_operators.py: the CPU kernels of PyTorch 1.9.1's,
random inputs with what is rare in pictures, such as boxes without area.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals

from d2serve.handlers.netdef.arguments import ArgumentError, Arguments
from d2serve.handlers.netdef.messages import argument
from d2serve.handlers.netdef.operators.making import Step
from d2serve.handlers.netdef.operators.table import OPERATORS

Arrays = list[npt.NDArray[Any]]

RECORDED = np.load(Path(__file__).parent / "data" / "operators.npz")
CASES: list[tuple[str, int, int, dict[str, Any]]] = json.loads(str(RECORDED["cases"]))
# What a tensor passes through unchanged, or what is only another name of an operator.
PLAIN = {"AliasWithName", "CopyCPUToGPU", "CopyGPUToCPU", "GenerateProposalsCPP"}


def step(type_: str, **args: Any) -> Step:
    return OPERATORS[type_](Arguments([argument(name, value) for name, value in args.items()]))


def recorded(number: int) -> tuple[Arrays, Arrays]:
    _, inputs, outputs, _ = CASES[number]
    return (
        [RECORDED[f"{number}.in{at}"] for at in range(inputs)],
        [RECORDED[f"{number}.out{at}"] for at in range(outputs)],
    )


def answers(type_: str, inputs: Arrays, args: dict[str, Any]) -> Arrays:
    made = step(type_, **args)(*map(torch.from_numpy, inputs))
    return [each.numpy() for each in (made if isinstance(made, tuple) else (made,))]


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[f"{at}-{case[0]}" for at, case in enumerate(CASES)]
)
def test_it_answers_as_caffe2(number: int) -> None:
    type_, _, _, args = CASES[number]
    inputs, expected = recorded(number)
    got = answers(type_, inputs, args)
    assert len(got) >= len(expected)
    for ours, theirs in zip(got, expected):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-5)


def test_all_were_recorded() -> None:
    """But for GivenTensorBoolFill, which this Caffe2 cannot be asked for by numbers."""
    assert OPERATORS.keys() - {case[0] for case in CASES} == PLAIN | {"GivenTensorBoolFill"}


def test_what_was_recorded_is_rich() -> None:
    names = ("GenerateProposals", "BoxWithNMSLimit", "RoIAlign")
    first = {
        name: [recorded(at)[1][0] for at, case in enumerate(CASES) if case[0] == name]
        for name in names
    }
    assert min(map(len, first["GenerateProposals"])) > 10
    assert min(map(len, first["BoxWithNMSLimit"])) == 0
    assert max(map(len, first["BoxWithNMSLimit"])) > 10
    assert any(np.isnan(each).any() for each in first["RoIAlign"])


@pytest.mark.parametrize("type_", sorted(PLAIN - {"GenerateProposalsCPP"}))
def test_what_passes_through(type_: str) -> None:
    x = torch.rand(2, 3)
    assert step(type_, name="x", is_backward=1)(x) is x


def test_a_fill_of_truths() -> None:
    (made,) = answers("GivenTensorBoolFill", [], {"shape": [2], "values": [1, 0]})
    assert made.tolist() == [True, False]


def test_equal_scores_are_taken_in_detectron2s_order() -> None:
    """A head whose layer is all zeros answers its bias, cell after cell.

    None of the boxes overlaps another by 0.7, so which are proposed is a matter of order alone.
    """
    anchors, height, width, most = 3, 10, 14, 150
    bias = torch.tensor([-0.1125, -0.0671, -0.1114]).view(1, anchors, 1, 1)
    scores = bias.expand(1, anchors, height, width).clone()
    scores[:, :, ::5] += torch.rand(scores[:, :, ::5].shape, generator=torch.manual_seed(1))
    own = torch.tensor([[-4.0, -4, 4, 4], [-7, -3, 7, 3], [-3, -7, 3, 7]])
    cells = torch.arange(height * width)
    corners = torch.stack([cells % width, cells // width] * 2, dim=1) * 16.0
    every = (corners[:, None] + own).reshape(1, -1, 4)  # as detectron2 has them, cell by cell
    sides = (height * 16, width * 16)
    (expected,) = find_top_rpn_proposals(
        [every], [scores.permute(0, 2, 3, 1).flatten(1)], [sides], 0.7, most, most, 0.0, False
    )
    boxes, found = step(
        "GenerateProposals",
        spatial_scale=1 / 16,
        pre_nms_topN=most,
        post_nms_topN=most,
        nms_thresh=0.7,
        min_size=0.0,
        legacy_plus_one=0,
    )(scores, torch.zeros(1, 4 * anchors, height, width), torch.tensor([[*sides, 1.0]]), own)
    assert len(found) == len(expected) == most > len(found.unique())
    assert torch.equal(found, expected.objectness_logits)
    assert torch.equal(boxes[:, 1:], expected.proposal_boxes.tensor)


@pytest.mark.parametrize("type_", ["Conv", "ConvTranspose", "RoIAlign", "GroupNorm", "MaxPool"])
def test_an_image_without_instances(type_: str) -> None:
    """A head has nothing to do there, and its operators get tensors of no rows."""
    none = torch.zeros(0, 4, 6, 6)
    given: dict[str, tuple[dict[str, Any], list[torch.Tensor]]] = {
        "Conv": ({"kernel": 3}, [none, torch.rand(2, 4, 3, 3)]),
        "ConvTranspose": ({"kernel": 2, "stride": 2}, [none, torch.rand(4, 2, 2, 2)]),
        "RoIAlign": ({"pooled_h": 2, "pooled_w": 2}, [torch.rand(1, 4, 6, 6), torch.zeros(0, 5)]),
        "GroupNorm": ({"group": 2}, [none, torch.rand(4), torch.rand(4)]),
        "MaxPool": ({"kernel": 2}, [none]),
    }
    args, inputs = given[type_]
    made = step(type_, **args)(*inputs)
    assert isinstance(made, torch.Tensor)
    assert len(made) == 0


def test_keypoints_without_instances() -> None:
    made = step("HeatmapMaxKeypoint")(torch.zeros(0, 5, 4, 4), torch.zeros(0, 4))
    assert isinstance(made, torch.Tensor)
    assert made.shape == (0, 4, 5)


@pytest.mark.parametrize(
    ("type_", "args", "reason"),
    [
        ("Conv", {"kernel": 3, "order": "NHWC"}, "order is 'NHWC', expected 'NCHW'"),
        ("Conv", {"kernels": [3]}, r"kernels are \(3,\), expected two"),
        ("Conv", {"kernel": 3, "pads": [0, 1, 2, 3]}, "pads differ from side to side"),
        ("Conv", {"kernel": 3, "pads": [1]}, r"pads are \(1,\), expected four"),
        ("Conv", {"kernel": 0.5}, "the argument kernel is not a whole number"),
        ("MaxPool", {"kernel": 3, "legacy_pad": 3}, "legacy_pad is 3, expected 0"),
        ("PadImage", {"pad": 1, "mode": "wrap"}, "mode is 'wrap'"),
        ("SpatialBN", {}, "is_test is 0, expected 1"),
        ("Cast", {"to": 4}, "to is 4, expected one of"),
        ("PadImage", {"pad": 1, "value": float("nan")}, "value is nan, expected a finite number"),
        ("Cast", {}, "the argument to is not there"),
        ("BBoxTransform", {"rotated": 1}, "rotated boxes are not run"),
        ("BBoxTransform", {"weights": [1.0]}, "expected four"),
        ("BoxWithNMSLimit", {"soft_nms_enabled": 1}, "soft_nms_enabled is 1, expected 0"),
        ("GivenTensorFill", {"shape": [3], "values": [1.0]}, r"1 values should fill .* \[3\]"),
        ("GivenTensorFill", {"shape": [-1], "values": [1.0]}, "should fill"),
        ("GivenTensorFill", {"shape": [2**62, 2**62], "values": [1.0]}, "should fill"),
    ],
)
def test_what_is_not_run_is_refused(type_: str, args: dict[str, Any], reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        step(type_, **args)


def test_rotated_proposals_are_refused() -> None:
    maps = torch.zeros(1, 1, 2, 2), torch.zeros(1, 5, 2, 2)
    with pytest.raises(ArgumentError, match="rotated boxes"):
        step("GenerateProposals")(*maps, torch.ones(1, 3), torch.zeros(1, 5))
