"""The end of models whose labels of pixels are those of a batch, beside its instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.modeling import PanopticFPN, SemanticSegmentor
from torch import Tensor

from d2serve.export.rewrites.batches.images import prepared
from d2serve.export.rewrites.endings import detections
from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import ONNX_BATCHES, Rewrite
from d2serve.handlers.spec.output_names import SEM_SEG


class _Panoptic:
    def forward(self, inputs: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        this: Any = self
        images = prepared(this, inputs)
        features = this.backbone(images.tensor)
        labels, _ = this.sem_seg_head(features, None)
        proposals, _ = this.proposal_generator(images, features, None)
        instances, _ = this.roi_heads(images, features, proposals, None)
        return [{**detections(instances)[0], SEM_SEG: labels}]


class _Semantic:
    def forward(self, inputs: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        this: Any = self
        labels, _ = this.sem_seg_head(this.backbone(prepared(this, inputs).tensor), None)
        return [{SEM_SEG: labels}]


LABEL_BATCHES = tuple(
    Rewrite(
        name="label_batches",
        replaces=kind,
        methods=(),  # nothing beside what the ending for one image replaces
        needed_for=frozenset({ONNX_BATCHES}),
        reason=f"modeling/meta_arch/{file}: the labels of one image are taken out of a batch's",
        make=override_methods(methods),
    )
    for kind, file, methods in (
        (PanopticFPN, "panoptic_fpn.py", _Panoptic),
        (SemanticSegmentor, "semantic_seg.py", _Semantic),
    )
)
