"""What is rewritten for an export answers as the untouched model does, and leaves it untouched.

On trained weights, in batches of mixed sizes: the raw answers of the untouched eager model are
caught at its own heads.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.structures import Instances
from torch import Tensor, nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.programs.scripting import script
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.samples import builtin_sample
from d2serve.export.reading.weights import load_model
from d2serve.export.rewrites.registry import exportable
from d2serve.export.rewrites.rewrite import ONNX, SCRIPTING, TRACING
from tests.conftest import source_of

BATCHES = ([0], [1, 2], [2, 0, 3, 1, 4])
MODELS = {
    "cascade_mask_rcnn_fpn": {"cascade_roi_heads", "roi_head_switches"},
    "semantic_fpn": {"semantic_segmentor", "sem_seg_fpn_head", "conv_activation"},
    "deeplab_v3plus": {"semantic_segmentor", "deeplab_v3_plus_head", "conv_activation", "aspp"},
    "panoptic_fpn": {"panoptic_fpn", "sem_seg_fpn_head", "conv_activation"},
    "rpn_fpn": {"proposal_network"},
    "faster_rcnn_c4": {"res5_roi_heads"},
}
"""What upstream's own scripting would have failed at."""

Raw = list[dict[str, Tensor]]
Inputs = list[dict[str, Tensor]]


@functools.cache
def model_of(name: str) -> nn.Module:
    return load_model(load_config(source_of(name)))


@functools.cache
def inputs_of(name: str) -> list[dict[str, Any]]:
    """Parts of the built-in scene in five sizes, as DefaultPredictor gives them to the model."""
    oracle = Oracle(load_config(source_of(name)))
    scene = builtin_sample()
    parts = (scene, scene[:, :400], scene[:300], scene[100:, 200:], scene[:200, :600])
    return [oracle.model_input(part) for part in parts]


def batch_of(name: str, indices: Sequence[int]) -> list[dict[str, Any]]:
    return [inputs_of(name)[index] for index in indices]


def untouched(model: nn.Module, batch: list[dict[str, Any]]) -> Raw:
    """What the heads of detectron2's own model answer, before its postprocessing changes it."""
    answers: Raw = [{} for _ in batch]

    def catch(_module: nn.Module, _inputs: object, output: Any) -> None:
        for index, answer in enumerate(answers):
            answer.update(_tensors(output[0][index]))

    names = ["sem_seg_head", "roi_heads" if hasattr(model, "roi_heads") else "proposal_generator"]
    heads = [getattr(model, name) for name in names if hasattr(model, name)]
    hooks = [head.register_forward_hook(catch) for head in heads]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    return answers


def _tensors(found: Tensor | Instances) -> dict[str, Tensor]:
    if isinstance(found, Tensor):
        return {"sem_seg": found.clone()}
    fields = found.get_fields().items()
    return {
        name: (value if isinstance(value, Tensor) else value.tensor).clone()
        for name, value in fields
    }


def assert_same(expected: Raw, got: Raw) -> None:
    things = 0
    for one, other in zip(expected, got, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert torch.equal(value, other[name]), name
            things += len(value)
    assert things > 0


@pytest.mark.parametrize("name", MODELS)
def test_eagerly_and_scripted_the_answers_are_the_same_bits(name: str) -> None:
    model = model_of(name)
    changed, names = exportable(model, SCRIPTING)
    assert set(names) == MODELS[name]
    scripted = script(changed).module
    for indices in BATCHES:
        batch = batch_of(name, indices)
        images: Inputs = [{"image": each["image"]} for each in batch]
        assert len({each["image"].shape for each in images}) == len(images)
        expected = untouched(model, batch)
        with torch.no_grad():
            assert_same(expected, changed(images))
            assert_same(expected, scripted(images))


@pytest.mark.parametrize("way", [TRACING, ONNX])
@pytest.mark.parametrize("name", MODELS)
def test_for_the_other_ways_too(name: str, way: str) -> None:
    changed, names = exportable(model_of(name), way)
    batch = batch_of(name, [1])
    with torch.no_grad():
        got = changed([{"image": each["image"]} for each in batch])
    expected = untouched(model_of(name), batch)
    if "group_norm_onnx" in names:  # which sums in another order
        for one, other in zip(expected, got, strict=True):
            for field, value in one.items():
                torch.testing.assert_close(other[field], value, rtol=1e-4, atol=1e-3)
    else:
        assert_same(expected, got)


@pytest.mark.parametrize("way", [TRACING, SCRIPTING, ONNX])
@pytest.mark.parametrize("name", MODELS)
def test_the_users_model_is_left_as_it_is_and_shares_its_weights(name: str, way: str) -> None:
    model = model_of(name)
    before = {path: (type(module), vars(module).keys()) for path, module in model.named_modules()}
    state = model.state_dict(keep_vars=True)
    changed, _names = exportable(model, way)
    assert changed is not model
    assert not changed.training
    after = {path: (type(module), vars(module).keys()) for path, module in model.named_modules()}
    assert after == before
    assert model.state_dict(keep_vars=True).keys() == state.keys()
    assert all(value is state[key] for key, value in model.state_dict(keep_vars=True).items())
    tensors = {id(each) for each in (*model.parameters(), *model.buffers())}
    # GroupNorm in ONNX has a constant of its own beside the weights.
    assert {id(each) for each in (*changed.parameters(), *changed.buffers())} >= tensors


class OwnBoxes(CascadeROIHeads):  # type: ignore[misc]  # detectron2 is untyped
    """Overrides what the equivalent stands for."""

    def _forward_box(self, features: Any, proposals: Any, targets: Any = None) -> Any:
        return super()._forward_box(features, proposals, targets)


class OwnMasks(CascadeROIHeads):  # type: ignore[misc]
    """Overrides something else."""

    def _forward_mask(self, features: Any, instances: Any) -> Any:
        answered = super()._forward_mask(features, instances)
        for each in answered:
            each.pred_masks = each.pred_masks * 0.5
        return answered


class OwnLayers(SemSegFPNHead):  # type: ignore[misc]
    """Overrides a method of the semantic head."""

    def layers(self, features: Any) -> Any:
        return super().layers(features) * 2


def with_class(name: str, part: str, own: type) -> nn.Module:
    """A model of which one part is a user's subclass."""
    model = load_model(load_config(source_of(name)))
    model.get_submodule(part).__class__ = own
    return model


def test_a_subclass_that_overrides_what_is_replaced_is_refused_by_name() -> None:
    model = with_class("cascade_mask_rcnn_fpn", "roi_heads", OwnBoxes)
    with pytest.raises(UnsupportedFamily) as caught:
        exportable(model, SCRIPTING)
    message = str(caught.value)
    assert message.startswith(f"{__name__}.OwnBoxes._forward_box (roi_heads, {__file__}:")
    assert "overrides what the export replaces" in message
    assert "cascade_roi_heads: modeling/roi_heads/cascade_rcnn.py" in message
    assert "--export-method" in message
    assert isinstance(model.roi_heads, OwnBoxes)
    changed, names = exportable(model, TRACING)  # for which nothing of it is replaced
    assert isinstance(changed.roi_heads, OwnBoxes)
    assert names == ()


def test_a_semantic_head_of_the_users_own_is_refused_by_name() -> None:
    model = with_class("semantic_fpn", "sem_seg_head", OwnLayers)
    with pytest.raises(UnsupportedFamily, match=r"test_exportable\.OwnLayers\.layers .*overrides"):
        exportable(model, SCRIPTING)
    assert exportable(model, TRACING)[1] == ("semantic_segmentor",)


def test_what_a_subclass_overrides_beside_that_is_kept() -> None:
    model = with_class("cascade_mask_rcnn_fpn", "roi_heads", OwnMasks)
    batch = batch_of("cascade_mask_rcnn_fpn", [1])
    changed, names = exportable(model, SCRIPTING)
    assert names == ("cascade_roi_heads", "roi_head_switches")
    images = [{"image": each["image"]} for each in batch]
    with torch.no_grad():
        (own,) = changed(images)
    (plain,) = untouched(model_of("cascade_mask_rcnn_fpn"), batch)
    assert torch.equal(own["pred_masks"], plain["pred_masks"] * 0.5)
    assert torch.equal(own["pred_boxes"], plain["pred_boxes"])
