"""What cannot be written for Caffe2, by module, and why: known before any work.

Caffe2's operators stand for methods of detectron2's classes. A subclass that overrides one of these
would lose what it does, so it is refused. What the networks themselves consist of is known by
tracing them, on a small image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from detectron2.layers import ROIAlign
from detectron2.modeling import Backbone, GeneralizedRCNN, PanopticFPN, SemanticSegmentor
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch import FCOS, ProposalNetwork, RetinaNet
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.rrpn import RRPN
from detectron2.modeling.roi_heads import (
    BaseKeypointRCNNHead,
    BaseMaskRCNNHead,
    CascadeROIHeads,
    FastRCNNOutputLayers,
    Res5ROIHeads,
    RROIHeads,
    StandardROIHeads,
)
from torch import nn

from d2serve.export.errors import ExportError, place_of
from d2serve.export.programs.caffe2.conversion import converted
from d2serve.export.programs.caffe2.forms import form_of
from d2serve.export.programs.caffe2.writing import graph_of
from d2serve.export.programs.carrying import why_without_place
from d2serve.export.reading.family import Family
from d2serve.export.rewrites.deform_conv.torchvision_form import (
    DEFORM_CONV,
    MODULATED_DEFORM_CONV,
    TorchvisionDeformConv,
)
from d2serve.export.rewrites.own_forwards import own_method
from d2serve.export.rewrites.registry import known_ending

# detectron2's default, and what Caffe2 has.
_SCALE_CLAMP = math.log(1000 / 16)
_ADVICE = "Use --format onnx or --format torchscript."

_RCNN = ("forward", "inference", "preprocess_image")
_DENSE = ("preprocess_image", "forward_inference", "inference_single_image")
_HEADS = ("forward", "forward_with_given_boxes")
_STOOD_FOR: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (PanopticFPN, _RCNN),
    (GeneralizedRCNN, _RCNN),
    (RetinaNet, ("forward", *_DENSE)),
    (SemanticSegmentor, ("forward",)),
    (RPN, ("forward", "predict_proposals")),
    (ROIPooler, ("forward",)),
    (CascadeROIHeads, (*_HEADS, "_forward_box", "_run_stage", "_create_proposals_from_boxes")),
    (Res5ROIHeads, (*_HEADS, "_shared_roi_transform")),
    (StandardROIHeads, (*_HEADS, "_forward_box", "_forward_mask", "_forward_keypoint")),
    (FastRCNNOutputLayers, ("inference", "predict_boxes", "predict_probs")),
    (BaseMaskRCNNHead, ("forward",)),
    (BaseKeypointRCNNHead, ("forward",)),
)
"""detectron2's classes with the methods that Caffe2's operators and their reader stand for. Of a
module that is of several, the first counts."""

_WITHOUT_FORM: tuple[tuple[type[nn.Module], str], ...] = (
    (ProposalNetwork, "Caffe2's CollectRpnProposals gives proposals without their scores"),
    (FCOS, "neither Caffe2 nor detectron2's reader of its files makes boxes of FCOS's maps"),
)

_DEFORMABLE: tuple[type[nn.Module], ...] = (
    TorchvisionDeformConv,
    *(each.replaces for each in (DEFORM_CONV, MODULATED_DEFORM_CONV)),
)
_NOT_THERE: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((RRPN, RROIHeads), "d2serve writes upright boxes only for Caffe2"),
    (_DEFORMABLE, "Caffe2 has deformable convolution on CUDA only"),
)


def why_no_caffe2(model: nn.Module) -> str | None:
    """Why a model cannot be written for Caffe2, and what to do; None where it can.

    Args:
        model: detectron2's or the user's own, in evaluation mode.
    """
    reason = _without_form(model) or next(_unlike(model), None)
    if reason is not None:
        return f"{reason}. {_ADVICE}"
    try:
        converted(graph_of(model)[0], model)
    except ExportError as error:
        return str(error)
    return None


def why_lost(family: Family) -> str | None:
    """Why what a model answers would be lost in Caffe2's files; None where it would not."""
    return why_without_place(family, f"for which files of Caffe2 have no place. {_ADVICE}")


def _without_form(model: nn.Module) -> str | None:
    for kind, reason in _WITHOUT_FORM:
        if isinstance(model, kind):
            return f"{type(model).__name__} cannot be exported for Caffe2: {reason}"
    if known_ending(model) is None or form_of(model) is None:
        return (
            f"{type(model).__name__} cannot be exported for Caffe2: its files hold detectron2's "
            "GeneralizedRCNN, PanopticFPN, RetinaNet and SemanticSegmentor"
        )
    return None


def _unlike(model: nn.Module) -> Iterator[str]:
    """What is not as Caffe2's operators have it."""
    for path, module in model.named_modules():
        reason = _not_there(module) or _overridden(module) or _unlike_upstream(module)
        if reason is not None:
            named = f"{path or 'The model'} ({type(module).__name__})"
            yield f"{named} cannot be exported for Caffe2: {reason}"


def _not_there(module: nn.Module) -> str | None:
    return next((reason for kinds, reason in _NOT_THERE if isinstance(module, kinds)), None)


def _overridden(module: nn.Module) -> str | None:
    for kind, methods in _STOOD_FOR:
        if isinstance(module, kind):
            for name in methods:
                changed = getattr(type(module), name)
                own = own_method(module, name)
                if changed is not getattr(kind, name) or own is not None:
                    return (
                        f"{place_of(own or changed)} overrides {name}, which Caffe2's operators "
                        f"stand for as it is in {kind.__name__}"
                    )
            return None
    return None


def _unlike_upstream(module: Any) -> str | None:
    if isinstance(module, Backbone) and module.padding_constraints.get("square_size"):
        return "it wants images padded to a square, of which its files say nothing"
    if isinstance(module, (RPN, RetinaNet)):
        if type(module.anchor_generator) is not DefaultAnchorGenerator:
            return "its anchors are not those of detectron2's DefaultAnchorGenerator"
        return _unlike_transform(module.box2box_transform)
    if isinstance(module, FastRCNNOutputLayers):
        return _unlike_transform(module.box2box_transform)
    if isinstance(module, ROIPooler):
        if not all(isinstance(each, ROIAlign) for each in module.level_poolers):
            return "it does not pool by ROIAlign (MODEL.ROI_BOX_HEAD.POOLER_TYPE)"
        return None
    if isinstance(module, (StandardROIHeads, Res5ROIHeads)):
        return _unlike_heads(module)
    return None


def _unlike_transform(transform: Any) -> str | None:
    if type(transform) is not Box2BoxTransform:
        return f"its boxes are made by {type(transform).__name__}, expected Box2BoxTransform"
    if transform.scale_clamp != _SCALE_CLAMP:
        return f"its scale_clamp is {transform.scale_clamp}, expected log(1000 / 16)"
    return None


def _unlike_heads(heads: Any) -> str | None:
    for kind, expected in (("mask", BaseMaskRCNNHead), ("keypoint", BaseKeypointRCNNHead)):
        if not getattr(heads, f"{kind}_on", False):
            continue
        head = getattr(heads, f"{kind}_head")
        if not isinstance(head, expected):
            return f"its {kind}_head is a {type(head).__name__}, expected a {expected.__name__}"
        if getattr(heads, f"{kind}_pooler", True) is None:
            return f"it has no {kind}_pooler"
    return None
