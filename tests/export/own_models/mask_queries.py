"""A set predictor of our own: mask queries, as DETR's and MaskFormer's descendants answer.

Each query has class logits (K + 1) and mask logits (H, W); semantic, panoptic and instance answers
are made of these as MaskFormer makes them, loops in Python included. The queries are built by
hand, on the trained pixels of the semantic_fpn example: one for each shape in each cell of a grid,
and two for each background. So images have many instances, and none by chance.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, build_sem_seg_head
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.memory import retry_if_cuda_oom
from torch import Tensor, nn
from torch.nn import functional

_SHAPES, _GROUNDS = 3, 3
_ROWS, _COLUMNS = 3, 4
_DIMENSIONS = 16
# Of a cell's width: windows overlap, so that segments compete for pixels.
_REACH = 0.62


class MaskQueries(nn.Module):
    """Answers what the config's switches ask for."""

    pixel_mean: Tensor
    pixel_std: Tensor
    labels: Tensor
    centres: Tensor
    reach: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.backbone = build_backbone(cfg)
        self.sem_seg_head = build_sem_seg_head(cfg, self.backbone.output_shape())
        self.sem_seg_head.num_classes = _SHAPES + _GROUNDS
        asked = cfg.MODEL.MASK_QUERIES
        self.semantic_on, self.panoptic_on = asked.SEMANTIC_ON, asked.PANOPTIC_ON
        self.instance_on = asked.INSTANCE_ON
        self.object_mask_threshold, self.overlap_threshold = 0.5, 0.7
        self.test_topk_per_image = 20
        self.metadata = SimpleNamespace(
            thing_dataset_id_to_contiguous_id={7 + i: i for i in range(_SHAPES)}
        )
        self.register_buffer("pixel_mean", torch.tensor(cfg.MODEL.PIXEL_MEAN).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(cfg.MODEL.PIXEL_STD).view(-1, 1, 1), False)
        self._set_queries()

    def _set_queries(self) -> None:
        cells = [
            ((column + 0.5) / _COLUMNS, (row + 0.5) / _ROWS)
            for row in range(_ROWS)
            for column in range(_COLUMNS)
        ]
        things = [(label, *cell) for cell in cells for label in range(_SHAPES)]
        # Two halves of each, which a panoptic map has as one.
        stuff = [(_SHAPES + label, x, 0.5) for label in range(_GROUNDS) for x in (0.25, 0.75)]
        queries = torch.tensor([*things, *stuff])
        of_a_cell, of_a_half = [_REACH / _COLUMNS, _REACH / _ROWS], [0.3, 1.0]
        reach = torch.tensor([of_a_cell] * len(things) + [of_a_half] * len(stuff))
        random = torch.Generator().manual_seed(5)
        drawn = torch.randn(len(queries), _DIMENSIONS, generator=random)
        keys = torch.randn(64, _DIMENSIONS, generator=random) / 8
        values = torch.randn(64, _SHAPES + _GROUNDS, generator=random) / 8
        for name, value in (
            ("labels", queries[:, 0].long()),
            ("centres", queries[:, 1:]),
            ("reach", reach),
            ("queries", drawn),
            ("keys", keys),
            ("values", values),
        ):
            self.register_buffer(name, value, False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        images = [x["image"].to(self.device) for x in batched_inputs]
        images = [(x - self.pixel_mean) / self.pixel_std for x in images]
        images = ImageList.from_tensors(images, self.backbone.size_divisibility)
        features = self.backbone(images.tensor)
        logits = self.sem_seg_head.layers(features)
        coarse = features["p5"].flatten(2).transpose(1, 2)
        answers = []
        for i, (given, size) in enumerate(zip(batched_inputs, images.image_sizes)):
            mask_cls, mask_pred = self.answered_by_queries(logits[i], coarse[i])
            mask_pred = functional.interpolate(
                mask_pred[None], size=images.tensor.shape[-2:], mode="bilinear"
            )[0]
            height, width = given.get("height", size[0]), given.get("width", size[1])
            answers.append(self.answer(mask_cls, mask_pred, size, height, width))
        return answers

    def answered_by_queries(self, logits: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        attended = functional.scaled_dot_product_attention(
            self.queries[None], (coarse @ self.keys)[None], (coarse @ self.values)[None]
        )[0]
        ones = torch.ones_like(logits[0])
        x = (ones.cumsum(1) - 0.5) / ones.sum(1, keepdim=True)
        y = (ones.cumsum(0) - 0.5) / ones.sum(0, keepdim=True)
        outside = functional.relu(
            (x[None] - self.centres[:, :1, None]).abs() - self.reach[:, :1, None]
        ) + functional.relu((y[None] - self.centres[:, 1:, None]).abs() - self.reach[:, 1:, None])
        odds = logits - torch.logsumexp(logits - 9 * _one_hot(logits), 0)
        mask_pred = odds[self.labels] - 200 * outside
        found = mask_pred.sigmoid().mean((1, 2)) * 60 - 2
        chosen = functional.one_hot(self.labels, logits.shape[0])
        mask_cls = torch.where(chosen == 1, found[:, None], -3 + 0.3 * attended)
        return torch.cat([mask_cls, torch.zeros_like(found)[:, None]], 1), mask_pred

    def answer(
        self, mask_cls: Tensor, mask_pred: Tensor, size: Any, height: Any, width: Any
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        mask_pred = retry_if_cuda_oom(sem_seg_postprocess)(mask_pred, size, height, width)
        if self.semantic_on:
            answer["sem_seg"] = retry_if_cuda_oom(self.semantic_inference)(mask_cls, mask_pred)
        if self.panoptic_on:
            answer["panoptic_seg"] = retry_if_cuda_oom(self.panoptic_inference)(mask_cls, mask_pred)
        if self.instance_on:
            answer["instances"] = retry_if_cuda_oom(self.instance_inference)(mask_cls, mask_pred)
        return answer

    def semantic_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> Tensor:
        probabilities = functional.softmax(mask_cls, dim=-1)[:, :-1]
        return torch.einsum("qc,qhw->chw", probabilities, mask_pred.sigmoid())

    def panoptic_inference(
        self, mask_cls: Tensor, mask_pred: Tensor
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        scores, labels = functional.softmax(mask_cls, dim=-1).max(-1)
        masks = mask_pred.sigmoid()
        kept = labels.ne(self.sem_seg_head.num_classes) & (scores > self.object_mask_threshold)
        scores, labels, masks = scores[kept], labels[kept], masks[kept]
        ids = torch.zeros(mask_pred.shape[-2:], dtype=torch.int32, device=masks.device)
        segments: list[dict[str, Any]] = []
        if len(labels) == 0:
            return ids, segments
        owner = (scores.view(-1, 1, 1) * masks).argmax(0)
        grounds: dict[int, int] = {}
        for k in range(len(labels)):
            label = int(labels[k])
            owned, own = (owner == k).sum().item(), (masks[k] >= 0.5).sum().item()
            visible = (owner == k) & (masks[k] >= 0.5)
            if not owned or not own or not visible.sum().item():
                continue
            if owned / own < self.overlap_threshold:
                continue
            isthing = label in self.metadata.thing_dataset_id_to_contiguous_id.values()
            if not isthing and label in grounds:
                ids[visible] = grounds[label]
                continue
            number = len(segments) + 1
            if not isthing:
                grounds[label] = number
            ids[visible] = number
            segments.append({"id": number, "isthing": isthing, "category_id": label})
        return ids, segments

    def instance_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> Instances:
        count = self.sem_seg_head.num_classes
        scores = functional.softmax(mask_cls, dim=-1)[:, :-1]
        labels = torch.arange(count, device=self.device).repeat(len(scores))
        scores, best = scores.flatten().topk(self.test_topk_per_image, sorted=False)
        labels, masks = labels[best], mask_pred[best // count]
        if self.panoptic_on:
            things = torch.zeros_like(scores, dtype=torch.bool)
            for i, label in enumerate(labels):
                things[i] = label in self.metadata.thing_dataset_id_to_contiguous_id.values()
            scores, labels, masks = scores[things], labels[things], masks[things]
        result = Instances(mask_pred.shape[-2:])
        result.pred_masks = (masks > 0).float()
        result.pred_boxes = Boxes(torch.zeros(len(masks), 4))
        inside = result.pred_masks.flatten(1)
        mean = (masks.sigmoid().flatten(1) * inside).sum(1) / (inside.sum(1) + 1e-6)
        result.scores = scores * mean
        result.pred_classes = labels
        return result


def _one_hot(logits: Tensor) -> Tensor:
    """The highest class of each pixel, without which the others are compared with it."""
    return functional.one_hot(logits.argmax(0), logits.shape[0]).permute(2, 0, 1).to(logits.dtype)


class UnlikeMaskFormer(MaskQueries):
    """Has a method of that name and these arguments, which does something else."""

    def panoptic_inference(
        self, mask_cls: Tensor, mask_pred: Tensor
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        ids, segments = super().panoptic_inference(mask_cls, mask_pred)
        return ids, [{**each, "id": each["id"] + 1} for each in segments]


for _class in (MaskQueries, UnlikeMaskFormer):
    if _class.__name__ not in META_ARCH_REGISTRY:
        META_ARCH_REGISTRY.register(_class)


def add_mask_queries_config(cfg: Any) -> None:
    """Declares keys of its own, as detectron2's projects do."""
    cfg.MODEL.MASK_QUERIES = CfgNode(
        {"SEMANTIC_ON": True, "PANOPTIC_ON": True, "INSTANCE_ON": True}
    )
