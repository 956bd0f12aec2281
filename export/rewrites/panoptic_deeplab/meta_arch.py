"""``PanopticDeepLab`` (projects/panoptic_deeplab/panoptic_seg.py), with its postprocessing.

It looks at one segment after another in Python and in numpy, which no program can follow. Here
pixels are grouped in tensors, and things are read off them in ``things.py``.
Where detectron2 finds no thing it leaves ``instances`` out; here there are none of them.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any, Dict, List  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.layers import move_device_like
from detectron2.projects.panoptic_deeplab import PanopticDeepLab
from detectron2.structures import ImageList
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.panoptic_deeplab.grouping import centers_of, nearest_of, segments_of
from d2serve.export.rewrites.panoptic_deeplab.things import things_of
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined, untyped-decorator"


@torch.jit.script
def _as_sent(maps: Tensor, resized: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """(C, H, W) maps without padding, of the size of the image as it was sent."""
    maps = maps[:, : resized.shape[1], : resized.shape[2]].unsqueeze(0)
    size = [int(height), int(width)]
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]


class _InTensors:
    def forward(self, inputs: List[Dict[str, Tensor]]) -> List[Dict[str, Tensor]]:
        images = [move_device_like(each["image"], self.pixel_mean) for each in inputs]
        images = [(each - self.pixel_mean) / self.pixel_std for each in images]
        features = self.backbone(ImageList.from_tensors(images, self.padding_unit).tensor)
        semantic = self.sem_seg_head(features)
        center, offset = self.ins_embed_head(features)
        answers: List[Dict[str, Tensor]] = []
        for index, each in enumerate(inputs):
            resized, height, width = each["image"], each["height"], each["width"]
            logits = _as_sent(semantic[index], resized, height, width)
            heatmap = _as_sent(center[index], resized, height, width)
            offsets = _as_sent(offset[index], resized, height, width)
            answers.append(self.grouped(logits, heatmap, offsets))
        return answers

    def grouped(self, logits: Tensor, heatmap: Tensor, offsets: Tensor) -> Dict[str, Tensor]:
        classes = logits.argmax(dim=0)
        centers = centers_of(heatmap, self.threshold, self.nms_kernel, self.top_k)
        ids, segments = segments_of(
            classes,
            nearest_of(centers, offsets),
            centers.shape[0],
            self.is_thing,
            self.label_divisor,
            self.stuff_area,
        )
        found = {"sem_seg": classes, "panoptic_seg": ids, "segments_info": segments}
        if self.predict_instances:
            boxes, scores, kinds, masks = things_of(ids, segments, logits, heatmap)
            found["pred_boxes"] = boxes
            found["scores"] = scores
            found["pred_classes"] = kinds
            found["pred_masks"] = masks
        return found


def _make(module: Any) -> nn.Module:
    module.padding_unit = (
        int(module.size_divisibility)
        if module.size_divisibility > 0
        else int(module.backbone.size_divisibility)
    )
    module.label_divisor = int(module.meta.label_divisor)
    module.top_k = -1 if module.top_k is None else int(module.top_k)
    is_thing = torch.zeros(module.sem_seg_head.predictor.out_channels, dtype=torch.int64)
    is_thing[list(module.meta.thing_dataset_id_to_contiguous_id.values())] = 1
    module.register_buffer("is_thing", is_thing.to(module.pixel_mean.device), persistent=False)
    del module.meta
    return override_methods(_InTensors)(module)


PANOPTIC_DEEPLAB = Rewrite(
    name="panoptic_deeplab",
    replaces=PanopticDeepLab,
    methods=("forward",),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason="projects/panoptic_deeplab/panoptic_seg.py: it groups pixels and scores things in "
    "Python loops over what is in the image, of which a trace holds one image's",
    make=_make,
)
