"""Panoptic-DeepLab in tensors groups pixels and scores things as detectron2's loops do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import examples.shapes.dataset  # noqa: F401  # the model asks for the names of its data set
from d2serve.export.programs.device_scan import check_no_device
from d2serve.export.programs.scripting import script
from d2serve.export.programs.tracing import trace
from d2serve.export.programs.unexportable import why_unexportable
from d2serve.export.proof.comparing.panoptic_labels import described
from d2serve.export.reading.families import family_of
from d2serve.export.reading.samples import builtin_sample
from d2serve.export.rewrites.panoptic_deeplab.grouping import centers_of, nearest_of, segments_of
from d2serve.export.rewrites.panoptic_deeplab.project import import_project
from d2serve.export.rewrites.registry import exportable
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING
from d2serve.handlers.spec.runtimes import RUNTIMES

MODELS = Path(__file__).resolve().parents[3] / "examples" / "shapes" / "models"
CLASSES, DIVISOR, VOID = 6, 1000, -1


def _smooth(random: torch.Generator, channels: int, size: tuple[int, int], factor: float) -> Tensor:
    coarse = torch.randn((1, channels, 5, 6), generator=random) * factor
    return functional.interpolate(coarse, size=size, mode="bilinear")[0]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    things=st.sets(st.integers(0, CLASSES - 1)),
    heat=st.sampled_from([0.01, 0.2, 1.0]),
    kernel=st.sampled_from([1, 3, 7]),
    top_k=st.sampled_from([None, 1, 3, 20]),
    stuff_area=st.sampled_from([0, 1, 40, 400]),
)
def test_pixels_are_grouped_as_detectron2_groups_them(
    seed: int,
    size: tuple[int, int],
    things: set[int],
    heat: float,
    kernel: int,
    top_k: int | None,
    stuff_area: int,
) -> None:
    import_project()
    from detectron2.projects.panoptic_deeplab.post_processing import get_panoptic_segmentation

    random = torch.Generator().manual_seed(seed)
    classes = _smooth(random, CLASSES, size, 1.0).argmax(dim=0)
    heatmap, offsets = _smooth(random, 1, size, heat), _smooth(random, 2, size, 8.0)
    expected, _ = get_panoptic_segmentation(
        classes[None], heatmap, offsets, things, DIVISOR, stuff_area, VOID, 0.1, kernel, top_k
    )
    is_thing = torch.tensor([int(number in things) for number in range(CLASSES)])
    centers = centers_of(heatmap, 0.1, kernel, -1 if top_k is None else top_k)
    ids, segments = segments_of(
        classes, nearest_of(centers, offsets), len(centers), is_thing, DIVISOR, stuff_area
    )
    labels = torch.cat((torch.tensor([VOID]), segments[:, 3]))
    assert torch.equal(labels[ids], expected[0])
    assert segments[:, 0].tolist() == list(range(1, len(segments) + 1))
    assert set(segments[:, 3].tolist()) == set(expected.unique().tolist()) - {VOID}
    assert segments[:, 1].tolist() == (segments[:, 3] // DIVISOR).tolist()
    assert segments[:, 2].tolist() == [int(number in things) for number in segments[:, 1].tolist()]


@pytest.fixture(scope="module")
def model() -> Any:
    cfg = get_cfg()
    import_project().add_panoptic_deeplab_config(cfg)
    cfg.merge_from_file(str(MODELS / "panoptic_deeplab.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    built = build_model(cfg).eval()
    state = torch.load(MODELS / "panoptic_deeplab.pth", weights_only=True)["model"]
    built.load_state_dict({name: value.float() for name, value in state.items()})
    return built


def _inputs() -> list[dict[str, Any]]:
    scene = builtin_sample()
    plain = np.full((150, 200, 3), 128, np.uint8)
    parts = (scene[::2, ::2], scene[100:260, 200:], scene[:300, :200], plain)
    sizes = ((480, 640), (160, 440), (350, 222), (150, 200))
    return [
        {
            "image": torch.from_numpy(part.astype(np.float32).transpose(2, 0, 1)),
            "height": height,
            "width": width,
        }
        for part, (height, width) in zip(parts, sizes)
    ]


def _tensors(given: dict[str, Any]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value) for name, value in given.items()}


def _assert_same(model: Any, given: dict[str, Any], got: dict[str, Tensor], score: float) -> int:
    """That a program's answer is the model's; how many things were compared."""
    height, width = given["height"], given["width"]
    with torch.no_grad():
        expected = described(model, model([given])[0], height, width)
    ids, segments = expected["panoptic_seg"]
    assert torch.equal(got["sem_seg"], expected["sem_seg"].argmax(dim=0))
    assert torch.equal(got["panoptic_seg"], ids)
    assert [tuple(row) for row in got["segments_info"].tolist()] == [
        (each["id"], each["category_id"], int(each["isthing"]), each["label"]) for each in segments
    ]
    instances = expected["instances"]
    assert torch.equal(got["pred_boxes"], instances.pred_boxes.tensor)
    assert torch.equal(got["pred_classes"], instances.pred_classes)
    assert torch.equal(got["pred_masks"], instances.pred_masks.to(torch.uint8))
    torch.testing.assert_close(got["scores"], instances.scores, rtol=0, atol=score)
    return len(instances)


def test_scripted_and_traced_are_eagers_answer(model: Any) -> None:
    family = family_of(model)
    assert (family.name, family.postprocessed) == ("Panoptic-DeepLab", True)
    first, *others = _inputs()
    scripted = script(exportable(model, SCRIPTING, True)[0]).module
    traced = trace(
        exportable(model, TRACING, True)[0], family.outputs, tuple(_tensors(first).values())
    )
    things = 0
    for program in (scripted, traced.module):
        check_no_device(program)
    together = scripted([_tensors(each) for each in (first, first)])
    for each in (first, *others):
        things += _assert_same(model, each, scripted([_tensors(each)])[0], 0.0)
        answer = dict(zip(family.outputs, traced.module(*_tensors(each).values())))
        _assert_same(model, each, answer, 0.0)
    assert things > 10
    _assert_same(model, first, together[1], 1e-6)


def test_other_runtimes_are_refused_since_last_digits_decide(model: Any) -> None:
    for name, facts in RUNTIMES.items():
        reason = why_unexportable(model, facts, facts.methods[0])
        assert (reason is None) == (name == "torchscript")
        # Caffe2's files have no place for the model at all, and a graph was not tried.
        assert (
            reason is None or name in ("caffe2", "torch_export") or "last digits decide" in reason
        )
