"""The boxes that the heads of a batch end in: ``fast_rcnn_inference`` of all images at once."""

from __future__ import annotations

from typing import Any

from detectron2.modeling.roi_heads import CascadeROIHeads, FastRCNNOutputLayers
from detectron2.structures import Instances
from torch import Tensor

from d2serve.export.rewrites.batches.images import BoxesOfImages, clipped, edges_of
from d2serve.export.rewrites.batches.suppression import best_of_images
from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import ONNX_BATCHES, Rewrite
from d2serve.handlers.spec.output_names import IMAGE_OF_INSTANCE


def instances_of(
    boxes: Tensor, scores: Tensor, classes: Tensor, images: Tensor, sizes: Tensor
) -> Instances:
    """The detections of a batch as one ``Instances``, in the order in which they are given."""
    found = Instances(sizes)
    found.pred_boxes = BoxesOfImages(boxes, images)
    found.scores = scores
    found.pred_classes = classes
    found.set(IMAGE_OF_INSTANCE, images)
    return found


def _found(
    layers: FastRCNNOutputLayers, boxes: Tensor, scores: Tensor, proposals: Instances
) -> tuple[Instances, Tensor]:
    """``fast_rcnn_inference_single_image``, but of proposals of all images."""
    sizes: Any = proposals.image_size
    images = proposals.proposal_boxes.images
    scores = scores[:, :-1]
    edges = edges_of(sizes)[images]
    clipped_boxes = clipped(boxes.reshape(boxes.shape[0], -1, 4), edges[:, None])
    wanted = scores > layers.test_score_thresh
    rows, classes = wanted.nonzero(as_tuple=True)
    of_classes = clipped_boxes.shape[1] > 1
    chosen = clipped_boxes[wanted] if of_classes else clipped_boxes[rows, 0]
    scores = scores[wanted]
    left = best_of_images(
        chosen,
        scores,
        classes,
        images[rows],
        sizes.shape[0],
        layers.test_nms_thresh,
        layers.test_topk_per_image,
    )
    found = instances_of(chosen[left], scores[left], classes[left], images[rows][left], sizes)
    return found, rows[left]


class _OfBatches:
    def inference(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        this: Any = self
        (boxes,) = this.predict_boxes(predictions, proposals)
        (scores,) = this.predict_probs(predictions, proposals)
        found, rows = _found(this, boxes, scores, proposals[0])
        return [found], [rows]


class _CascadeOfBatches:
    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> list[Instances]:
        this: Any = self
        levels = [features[name] for name in this.box_in_features]
        given = proposals[0]
        sizes: Any = given.image_size
        boxes, images = given.proposal_boxes.tensor, given.proposal_boxes.images
        edges = edges_of(sizes)[images]
        scores = []
        for stage, predictor in enumerate(this.box_predictor):
            if stage > 0:
                given = Instances(sizes)
                given.proposal_boxes = BoxesOfImages(clipped(boxes, edges), images)
            predictions = this._run_stage(levels, [given], stage)
            (boxes,) = predictor.predict_boxes(predictions, [given])
            scores.append(predictor.predict_probs(predictions, [given])[0])
        mean = sum(scores[1:], scores[0]) * (1.0 / this.num_cascade_stages)
        return [_found(this.box_predictor[-1], boxes, mean, given)[0]]


BOX_BATCHES = Rewrite(
    name="box_batches",
    replaces=FastRCNNOutputLayers,
    methods=("inference",),
    needed_for=frozenset({ONNX_BATCHES}),
    reason="modeling/roi_heads/fast_rcnn.py: fast_rcnn_inference is a loop over images, of which a "
    "trace has as many as it was given",
    make=override_methods(_OfBatches),
)
CASCADE_BATCHES = Rewrite(
    name="cascade_batches",
    replaces=CascadeROIHeads,
    methods=("_forward_box", "_create_proposals_from_boxes"),
    needed_for=frozenset({ONNX_BATCHES}),
    reason="modeling/roi_heads/cascade_rcnn.py: _create_proposals_from_boxes is a loop over images",
    make=override_methods(_CascadeOfBatches),
)
