"""``CascadeROIHeads`` (detectron2/modeling/roi_heads/cascade_rcnn.py) cannot be scripted.

``forward`` and ``_forward_box`` leave their arguments untyped, keep each stage's predictor in a
list of tuples, and ``_run_stage`` indexes a ModuleList by a variable, none of which TorchScript
takes. Here the loop over the stages is one that TorchScript unrolls. Tracing and ONNX need none of
this.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Dict, List, Optional, Tuple  # noqa: UP035  # TorchScript reads these

from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, Rewrite

# ruff: noqa: UP006


class _Scriptable:
    def forward(
        self,
        images: ImageList,  # noqa: ARG002  # the interface of ROI heads
        features: Dict[str, Tensor],
        proposals: List[Instances],
        targets: Optional[List[Instances]] = None,  # noqa: ARG002
    ) -> Tuple[List[Instances], Dict[str, Tensor]]:
        instances = self._forward_box(features, proposals)
        instances = self.forward_with_given_boxes(features, instances)  # type: ignore[attr-defined]
        return instances, {}

    def _forward_box(
        self, features: Dict[str, Tensor], proposals: List[Instances]
    ) -> List[Instances]:
        levels = [features[name] for name in self.box_in_features]  # type: ignore[attr-defined]
        image_sizes = [each.image_size for each in proposals]
        boxes: List[Tensor] = []
        sums: List[Tensor] = []
        for stage, (head, predictor) in enumerate(zip(self.box_head, self.box_predictor)):  # type: ignore[attr-defined]
            if stage > 0:
                proposals = self._create_proposals_from_boxes(boxes, image_sizes)
            pooled = self.box_pooler(levels, [each.proposal_boxes for each in proposals])  # type: ignore[attr-defined]
            predictions = predictor(head(pooled))
            boxes = predictor.predict_boxes(predictions, proposals)
            scores = predictor.predict_probs(predictions, proposals)
            if stage == 0:
                sums = [each for each in scores]  # noqa: C416  # TorchScript has no list(...)
            else:
                sums = [total + each for total, each in zip(sums, scores)]
        means = [total * (1.0 / self.num_cascade_stages) for total in sums]  # type: ignore[attr-defined]
        last = self.box_predictor[-1]  # type: ignore[attr-defined]
        found: Tuple[List[Instances], List[Tensor]] = fast_rcnn_inference(
            boxes,
            means,
            image_sizes,
            last.test_score_thresh,
            last.test_nms_thresh,
            last.test_topk_per_image,
        )
        return found[0]

    def _create_proposals_from_boxes(
        self, boxes: List[Tensor], image_sizes: List[Tuple[int, int]]
    ) -> List[Instances]:
        proposals: List[Instances] = []
        for each, size in zip(boxes, image_sizes):
            clipped = Boxes(each)
            clipped.clip(size)
            instances = Instances(size)
            instances.proposal_boxes = clipped
            proposals.append(instances)
        return proposals


CASCADE_ROI_HEADS = Rewrite(
    name="cascade_roi_heads",
    replaces=CascadeROIHeads,
    methods=("forward", "_forward_box", "_run_stage", "_create_proposals_from_boxes"),
    needed_for=frozenset({SCRIPTING}),
    reason="modeling/roi_heads/cascade_rcnn.py: _run_stage indexes a ModuleList by a variable and "
    "arguments are untyped, which TorchScript does not take",
    make=override_methods(_Scriptable),
)
