"""The models in Caffe2's form: a padded batch of one image in, named tensors out.

Everything that torch computes is left to the model's own modules. What comes between them and
after them, detectron2's loops over images and boxes, is said in Caffe2's operators (heads.py), as
detectron2's own tracer did (detectron2/export/caffe2_modeling.py). The names of what goes in and
comes out, and of what a file says of itself, are that tracer's, so that its reader reads the files.
``SemanticSegmentor`` it did not have.
"""

from __future__ import annotations

import copy
import io
from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN, PanopticFPN, SemanticSegmentor
from detectron2.modeling.meta_arch import RetinaNet
from torch import Tensor, nn

from d2serve.export.programs.caffe2.heads import proposals, roi_outputs
from d2serve.handlers.netdef.messages import ArgumentValue

DATA, IM_INFO = "data", "im_info"
"""(1, C, H, W) float32, padded with the pixel mean; (1, 3): height and width without the padding,
and the scale, 1."""
SEM_SEG = "sem_seg"


class Form(nn.Module):
    """A model in Caffe2's form."""

    architecture: str
    """What a file names its kind by."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap detectron2's model; it is left as it is."""
        super().__init__()
        self.model = model
        self.outputs: tuple[str, ...] = ()
        """Names of what ``forward`` answered last, in its order."""

    @property
    def channels(self) -> int:
        """Of its images."""
        model: Any = self.model
        return len(model.pixel_mean)

    def forward(self, data: Tensor, im_info: Tensor) -> tuple[Tensor, ...]:
        """See DATA and IM_INFO."""
        model: Any = self.model
        normalized = (data - model.pixel_mean) / model.pixel_std
        answer = self.answer(model.backbone(normalized), im_info)
        self.outputs = tuple(answer)
        return tuple(answer.values())

    def answer(self, features: dict[str, Tensor], im_info: Tensor) -> dict[str, Tensor]:
        """The network's outputs by name, of the backbone's."""
        raise NotImplementedError

    def facts(self) -> dict[str, ArgumentValue]:
        """What its reader needs to know beside the outputs, by the name of the argument."""
        model: Any = self.model
        return {
            "size_divisibility": int(model.backbone.size_divisibility),
            "device": "cpu",
            "meta_architecture": self.architecture,
        }


class RCNN(Form):
    """Boxes with scores and classes, masks and heat maps of keypoints."""

    architecture = "GeneralizedRCNN"

    def answer(self, features: dict[str, Tensor], im_info: Tensor) -> dict[str, Tensor]:
        """Of instances, ordered by class, then by falling score."""
        model: Any = self.model
        rois = proposals(model.proposal_generator, features, im_info)
        return roi_outputs(model.roi_heads, features, rois, im_info)


class Panoptic(RCNN):
    """What an R-CNN answers, and the logits of each pixel's label."""

    architecture = "PanopticFPN"

    def answer(self, features: dict[str, Tensor], im_info: Tensor) -> dict[str, Tensor]:
        """Of instances, and of the padded image."""
        return {**super().answer(features, im_info), SEM_SEG: _sem_seg(self.model, features)}

    def facts(self) -> dict[str, ArgumentValue]:
        """With the numbers by which the two are merged."""
        model: Any = self.model
        return {
            **super().facts(),
            "combine_overlap_threshold": float(model.combine_overlap_thresh),
            "combine_stuff_area_limit": int(model.combine_stuff_area_thresh),
            "combine_instances_confidence_threshold": float(model.combine_instances_score_thresh),
        }


class Semantic(Form):
    """The logits of each pixel's label."""

    architecture = "SemanticSegmentor"

    def answer(self, features: dict[str, Tensor], im_info: Tensor) -> dict[str, Tensor]:
        """Of the padded image; an input that nothing needs would be left out of the network."""
        return {IM_INFO: im_info, SEM_SEG: _sem_seg(self.model, features)}


class Retina(Form):
    """What a dense head says at every place; its reader makes boxes of that."""

    architecture = "RetinaNet"

    def answer(self, features: dict[str, Tensor], im_info: Tensor) -> dict[str, Tensor]:
        """Logits and deltas of each level: Caffe2 has no operator that makes boxes of them."""
        model: Any = self.model
        levels = [features[name] for name in model.head_in_features]
        answer = {IM_INFO: im_info}
        answer.update((f"feature_{index}", level) for index, level in enumerate(levels))
        for index, (logits, deltas) in enumerate(zip(*model.head(levels), strict=True)):
            answer.update({f"box_cls_{index}": logits, f"box_delta_{index}": deltas})
        return answer

    def facts(self) -> dict[str, ArgumentValue]:
        """With what boxes are made by."""
        model: Any = self.model
        return {
            **super().facts(),
            "score_threshold": float(model.test_score_thresh),
            "topk_candidates": int(model.test_topk_candidates),
            "nms_threshold": float(model.test_nms_thresh),
            "max_detections_per_image": int(model.max_detections_per_image),
            "bbox_reg_weights": [float(each) for each in model.box2box_transform.weights],
            "serialized_anchor_generator": _saved(model.anchor_generator),
        }


FORMS: tuple[tuple[type[nn.Module], type[Form]], ...] = (
    (PanopticFPN, Panoptic),  # a GeneralizedRCNN as well
    (GeneralizedRCNN, RCNN),
    (RetinaNet, Retina),
    (SemanticSegmentor, Semantic),
)


def form_of(model: nn.Module) -> Form | None:
    """A model in Caffe2's form, or None where Caffe2 has none for it."""
    return next((form(model) for kind, form in FORMS if isinstance(model, kind)), None)


def _sem_seg(model: Any, features: dict[str, Tensor]) -> Tensor:
    logits: Tensor = model.sem_seg_head(features)[0]
    return logits


def _saved(generator: Any) -> bytes:
    # Upstream's reader takes the module itself; a LazyConfig's lists would bring omegaconf into it.
    plain = copy.deepcopy(generator).cpu()
    plain.strides = [int(each) for each in generator.strides]
    file = io.BytesIO()
    torch.save(plain, file)
    return file.getvalue()
