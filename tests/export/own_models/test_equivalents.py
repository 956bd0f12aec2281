"""What replaces the loops of set predictors answers as they do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.structures import Instances
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.rewrites.own_models.best_boxes import BEST_BOXES
from d2serve.export.rewrites.own_models.deformable_attention import (
    DEFORMABLE_ATTENTION,
    DEFORMABLE_ENCODER,
)
from d2serve.export.rewrites.own_models.mask_queries import (
    instances_in_tensors,
    panoptic_in_tensors,
)
from tests.export.own_models.mask_queries import MaskQueries

CLASSES, THINGS = 4, (1, 3)


def predictor(**changes: Any) -> Any:
    """What the methods of a set predictor look at."""
    model = SimpleNamespace(
        sem_seg_head=SimpleNamespace(num_classes=CLASSES),
        metadata=SimpleNamespace(thing_dataset_id_to_contiguous_id=dict(enumerate(THINGS))),
        object_mask_threshold=0.4,
        overlap_threshold=0.6,
        test_topk_per_image=15,
        panoptic_on=True,
        device=torch.device("cpu"),
    )
    return SimpleNamespace(**{**vars(model), **changes})


def queries(seed: int, count: int = 12, sharp: float = 4.0) -> tuple[Tensor, Tensor]:
    """Logits of classes, and of masks that are blobs of several sizes."""
    random = torch.Generator().manual_seed(seed)
    classes = torch.randn(count, CLASSES + 1, generator=random) * sharp
    coarse = torch.randn(1, count, 5, 6, generator=random) * 6
    return classes, functional.interpolate(coarse, (37, 44), mode="bilinear")[0]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("overlap", [0.0, 0.6, 0.9])
def test_panoptic_maps_without_a_loop(seed: int, overlap: float) -> None:
    model, (mask_cls, mask_pred) = predictor(overlap_threshold=overlap), queries(seed)
    expected, segments = MaskQueries.panoptic_inference(model, mask_cls, mask_pred)
    ids, table = panoptic_in_tensors(model, mask_cls, mask_pred)
    assert ids.dtype == torch.int32
    assert torch.equal(ids, expected)
    assert table.as_dicts() == segments


def test_the_cases_are_not_all_alike() -> None:
    """Stuff of several queries that is one segment, queries that are left out, and none."""
    model, merged, left_out = predictor(), 0, 0
    for seed in range(12):
        mask_cls, mask_pred = queries(seed)
        _, segments = MaskQueries.panoptic_inference(model, mask_cls, mask_pred)
        scores, labels = mask_cls.softmax(-1).max(-1)
        kept = labels[(labels != CLASSES) & (scores > model.object_mask_threshold)].tolist()
        stuff = [label for label in kept if label not in THINGS]
        merged += len(stuff) > len(set(stuff))
        left_out += len(segments) < len([x for x in kept if x in THINGS]) + len(set(stuff))
    assert (merged, left_out) >= (3, 3)


def test_no_query_is_kept() -> None:
    model, (mask_cls, mask_pred) = predictor(object_mask_threshold=1.0), queries(0)
    ids, table = panoptic_in_tensors(model, mask_cls, mask_pred)
    assert not ids.any()
    assert table.as_dicts() == []


@pytest.mark.parametrize("panoptic_on", [True, False])
def test_instances_without_a_loop(panoptic_on: bool) -> None:
    model, (mask_cls, mask_pred) = predictor(panoptic_on=panoptic_on), queries(3)
    expected = MaskQueries.instance_inference(model, mask_cls, mask_pred)
    found = instances_in_tensors(model, mask_cls, mask_pred)
    assert len(found) == len(expected) > 3
    assert found.get_fields().keys() == expected.get_fields().keys()
    for name in ("scores", "pred_classes", "pred_masks"):
        assert torch.equal(found.get(name), expected.get(name)), name
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)


class MSDeformAttn(nn.Module):
    """Has the name, the parts and the arguments of the projects' module; samples pixel by pixel."""

    def __init__(self, dims: int = 8, levels: int = 2, heads: int = 2, points: int = 3) -> None:
        super().__init__()
        self.d_model, self.n_levels, self.n_heads, self.n_points = dims, levels, heads, points
        self.sampling_offsets = nn.Linear(dims, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dims, heads * levels * points)
        self.value_proj, self.output_proj = nn.Linear(dims, dims), nn.Linear(dims, dims)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        input_flatten: Tensor,
        input_spatial_shapes: Tensor,
        input_level_start_index: Tensor,
        input_padding_mask: Tensor | None = None,
    ) -> Tensor:
        images, count, _ = query.shape
        shape = (images, count, self.n_heads, self.n_levels, self.n_points)
        offsets = self.sampling_offsets(query).view(*shape, 2)
        weights = self.attention_weights(query).view(*shape[:3], -1).softmax(-1).view(shape)
        value = self.value_proj(input_flatten)
        if input_padding_mask is not None:
            value = value.masked_fill(input_padding_mask[..., None], 0.0)
        value = value.view(images, -1, self.n_heads, self.d_model // self.n_heads)
        answer = torch.zeros(images, count, self.n_heads, value.shape[3])
        for index in torch.cartesian_prod(*(torch.arange(side) for side in shape)).tolist():
            image, at, head, level, _point = index
            height, width = input_spatial_shapes[level].tolist()
            place = reference_points[image, at, level, :2] * torch.tensor([width, height])
            offset = offsets[tuple(index)]
            if reference_points.shape[-1] == 4:
                size = reference_points[image, at, level, 2:] * torch.tensor([width, height])
                offset = offset / self.n_points * size * 0.5
            x, y = (place + offset - 0.5).tolist()
            first = int(input_level_start_index[level])
            for row in (int(y // 1), int(y // 1) + 1):
                for column in (int(x // 1), int(x // 1) + 1):
                    if 0 <= row < height and 0 <= column < width:
                        share = (1 - abs(y - row)) * (1 - abs(x - column))
                        pixel = value[image, first + row * width + column, head]
                        answer[image, at, head] += weights[tuple(index)] * share * pixel
        output: Tensor = self.output_proj(answer.flatten(2))
        return output


@pytest.mark.parametrize("coordinates", [2, 4])
def test_deformable_attention_samples_as_the_papers_equation(coordinates: int) -> None:
    torch.manual_seed(1)
    module = MSDeformAttn().eval()
    shapes, starts = torch.tensor([[3, 5], [2, 2]]), torch.tensor([0, 15])
    query, pixels = torch.randn(2, 4, 8), torch.randn(2, 19, 8)
    places = torch.rand(2, 4, 2, coordinates)
    padding = torch.rand(2, 19) > 0.8
    assert DEFORMABLE_ATTENTION.applies(module)
    with torch.no_grad():
        expected = module(query, places, pixels, shapes, starts, padding)
        found = DEFORMABLE_ATTENTION.make(module)(query, places, pixels, shapes, starts, padding)
    assert torch.allclose(found, expected, atol=1e-5)


class MSDeformAttnTransformerEncoderOnly(nn.Module):
    """Has the name, the parts and the arguments of Mask2Former's encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(2, 8))
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList([_Layer()])

    def forward(self, srcs: list[Tensor], pos_embeds: list[Tensor]) -> Any:
        raise NotImplementedError


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = MSDeformAttn()

    def forward(
        self, src: Tensor, pos: Tensor, places: Tensor, shapes: Tensor, starts: Tensor, _: None
    ) -> Tensor:
        answer: Tensor = src + self.attention(src + pos, places, src, shapes, starts)
        return answer


def test_the_encoder_of_deformable_attention_is_traced_for_every_size() -> None:
    torch.manual_seed(1)
    module: nn.Module = MSDeformAttnTransformerEncoderOnly().eval()
    assert DEFORMABLE_ENCODER.applies(module)
    module = DEFORMABLE_ENCODER.make(module)
    layer: Any = module.get_submodule("encoder.layers.0")

    def levels(height: int, width: int) -> tuple[list[Tensor], list[Tensor]]:
        sizes = ((height, width), (height // 2, width // 2))
        return [torch.randn(1, 8, *s) for s in sizes], [torch.randn(1, 8, *s) for s in sizes]

    with torch.no_grad():
        wanted = {size: (levels(*size)) for size in ((6, 4), (3, 7))}
        slow = {size: module(*given) for size, given in wanted.items()}
        layer.attention = DEFORMABLE_ATTENTION.make(layer.attention)
        traced = torch.jit.trace(module, wanted[6, 4], check_trace=False)  # type: ignore[no-untyped-call]
        for size, given in wanted.items():
            pixels, shapes, starts = traced(*given)
            assert torch.allclose(pixels, slow[size][0], atol=1e-5)
            assert torch.equal(shapes, slow[size][1])
            assert starts.tolist() == [0, size[0] * size[1]]


class BestOfAllLevels(nn.Module):
    """Has the method and the number of CenterNet2's, and chooses by a score in Python as well."""

    def __init__(self) -> None:
        super().__init__()
        self.post_nms_topk_test = 3

    def nms_and_topK(self, boxlists: list[Instances], nms: bool = True) -> list[Instances]:  # noqa: N802
        assert nms
        results = []
        for found in boxlists:
            kept = found[found.scores > 0.1]
            if len(kept) > self.post_nms_topk_test:
                least = kept.scores.sort(descending=True).values[self.post_nms_topk_test - 1].item()
                kept = kept[kept.scores >= least]
            results.append(kept)
        return results


@pytest.mark.parametrize(
    "scores",
    [[], [0.3], [0.2, 0.9, 0.05, 0.4], [0.2, 0.9, 0.5, 0.4, 0.3], [0.5, 0.9, 0.5, 0.5, 0.3]],
)
def test_the_best_boxes_are_those_that_a_score_in_python_leaves(scores: list[float]) -> None:
    own: Any = BestOfAllLevels()
    found = Instances((5, 5), scores=torch.tensor(scores))
    assert BEST_BOXES.applies(own)
    expected = own.nms_and_topK([found])
    equivalent: Any = BEST_BOXES.make(own)
    (got,) = equivalent.nms_and_topK([found])
    assert torch.equal(got.scores, expected[0].scores)
    assert equivalent.post_nms_topk_test == 3
