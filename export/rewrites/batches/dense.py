"""Detections of RetinaNet and FCOS in a batch, which choose among anchors of all levels."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling.meta_arch import FCOS, RetinaNet
from detectron2.structures import ImageList, Instances
from torch import Tensor

from d2serve.export.rewrites.batches.boxes import instances_of
from d2serve.export.rewrites.batches.suppression import NOWHERE, Rows, best_of_images
from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import ONNX_BATCHES, Rewrite


class _RetinaNetOfBatches:
    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: list[list[Tensor]]
    ) -> list[Instances]:
        this: Any = self
        logits, deltas = this._transpose_dense_predictions(predictions, [this.num_classes, 4])
        scores = [each.sigmoid() for each in logits]
        return _found(this, images, this.anchor_generator(features), scores, deltas)


class _FCOSOfBatches:
    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: list[list[Tensor]]
    ) -> list[Instances]:
        this: Any = self
        logits, deltas, centerness = this._transpose_dense_predictions(
            predictions, [this.num_classes, 4, 1]
        )
        # arxiv.org/abs/2006.09214, equation 4.
        scores = [
            torch.sqrt(of_class.sigmoid() * of_place.sigmoid())
            for of_class, of_place in zip(logits, centerness)
        ]
        return _found(this, images, this.anchor_generator(features), scores, deltas)


def _found(
    model: Any, images: ImageList, anchors: list[Any], scores: list[Tensor], deltas: list[Tensor]
) -> list[Instances]:
    sizes: Any = images.image_sizes[0]
    levels = [_of_level(model, sizes.shape[0], *each) for each in zip(anchors, scores, deltas)]
    boxes, best, classes, owners = (torch.cat(parts) for parts in zip(*levels))
    left = best_of_images(
        boxes,
        best,
        classes,
        owners,
        sizes.shape[0],
        model.test_nms_thresh,
        model.max_detections_per_image,
    )
    return [instances_of(boxes[left], best[left], classes[left], owners[left], sizes)]


def _of_level(
    model: Any, count: Any, anchors: Any, scores: Tensor, deltas: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``_decode_per_level_predictions`` of all images: boxes, scores, classes and images.

    Args:
        scores: (images, anchors, classes).
        deltas: (images, anchors, 4).
    """
    wanted = scores > model.test_score_thresh
    images, places, classes = wanted.nonzero(as_tuple=True)
    scores = scores[wanted]
    rows = Rows(images, count)
    most: Any = torch.clamp(rows.width, max=model.test_topk_candidates)
    best, order = rows.table(scores, NOWHERE).topk(most, dim=1)
    index = rows.table(torch.arange(scores.shape[0]).to(images), 0).gather(1, order)
    left = index[best > NOWHERE]
    images, places, classes = images[left], places[left], classes[left]
    boxes = model.box2box_transform.apply_deltas(deltas[images, places], anchors.tensor[places])
    return boxes, scores[left], classes, images


DENSE_BATCHES = tuple(
    Rewrite(
        name=f"{kind.__name__.lower()}_batches",
        replaces=kind,
        methods=(
            "forward_inference",
            "inference_single_image",
            "_decode_per_level_predictions",
            "_decode_multi_level_predictions",
        ),
        needed_for=frozenset({ONNX_BATCHES}),
        reason=f"modeling/meta_arch/{kind.__name__.lower()}.py: forward_inference is a loop over "
        "images, of which a trace has as many as it was given",
        make=override_methods(methods),
    )
    for kind, methods in ((RetinaNet, _RetinaNetOfBatches), (FCOS, _FCOSOfBatches))
)
