"""Recognises what a model is, and refuses by name what cannot be exported, before any work.

A family is recognised by the classes of the built model. So a custom subclass counts as what it
extends, and it does not matter whether a YAML config or a LazyConfig built it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from detectron2.modeling import GeneralizedRCNN, PanopticFPN, SemanticSegmentor
from detectron2.modeling.backbone import FPN, SimpleFeaturePyramid, ViT
from detectron2.modeling.meta_arch import FCOS, ProposalNetwork, RetinaNet
from detectron2.modeling.proposal_generator.rrpn import RRPN
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    Res5ROIHeads,
    RROIHeads,
    StandardROIHeads,
)
from detectron2.modeling.test_time_augmentation import GeneralizedRCNNWithTTA
from torch import nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.reading.family import Family as Family
from d2serve.export.reading.own_models.answers import own_family
from d2serve.export.rewrites.details import makes_details
from d2serve.export.rewrites.registry import is_panoptic_deeplab, known_ending
from d2serve.handlers.spec.model_spec import PanopticMerge
from d2serve.handlers.spec.output_names import (
    BOXES,
    CLASSES,
    KEYPOINTS,
    MASKS,
    OBJECTNESS_LOGITS,
    PANOPTIC_SEG,
    PROPOSAL_BOXES,
    SCORES,
    SEGMENTS_INFO,
    SEM_SEG,
    XYWHA_ABS,
    XYXY_ABS,
)

_DETECTIONS = (BOXES, SCORES, CLASSES)
_KNOWN_AS = {"SwinTransformer": "Swin", "MViT": "MViTv2"}
# detectron2's projects that cannot be exported. They are known by name, since a project may not be
# installed.
_PROJECTS = {
    "TensorMask": "its swap_align2nat operator exists as a CUDA extension of the project only",
    "DensePose": "its outputs are charts over a body's surface, for which neither the response "
    "format nor COCO has a form",
}

_SEMANTIC_HEADS = {
    "DeepLabV3PlusHead": "DeepLab v3+",
    "DeepLabV3Head": "DeepLab v3",
    "PointRendSemSegHead": "PointRend",
}


def family_of(model: nn.Module) -> Family:
    """Recognise a model that detectron2 built.

    Raises:
        UnsupportedFamily: it cannot be exported; the message says why.
    """
    _refuse_projects(model)
    if known_ending(model) is None:
        return own_family(model)
    if isinstance(model, (RetinaNet, FCOS)):
        dense: Any = model
        return Family(
            type(model).__name__ if type(model) in (RetinaNet, FCOS) else _dense_name(model),
            _DETECTIONS,
            dense.num_classes,
            dense.test_score_thresh,
            dense.test_nms_thresh,
            dense.max_detections_per_image,
        )
    if isinstance(model, SemanticSegmentor):
        return Family(f"Semantic segmentation {_semantic_kind(model)}", (SEM_SEG,), None)
    if isinstance(model, ProposalNetwork):
        generator: Any = model.proposal_generator
        _require_proposals(generator)
        if isinstance(generator, RRPN):
            raise UnsupportedFamily(
                "A proposal network of rotated boxes (RRPN) without heads cannot be exported yet. "
                "Export a model that has heads on it."
            )
        return Family(
            f"RPN {_backbone_kind(model)}",
            (PROPOSAL_BOXES, OBJECTNESS_LOGITS),
            None,
            None,
            generator.nms_thresh,
            generator.post_nms_topk[False],
        )
    if isinstance(model, GeneralizedRCNN):
        return _rcnn(model)
    if is_panoptic_deeplab(model):
        return _panoptic_deeplab(model)
    return own_family(model)


def _panoptic_deeplab(model: Any) -> Family:
    instances = (*_DETECTIONS, MASKS) * bool(model.predict_instances)
    return Family(
        "Panoptic-DeepLab",
        (*instances, SEM_SEG, PANOPTIC_SEG, SEGMENTS_INFO),
        len(model.meta.thing_dataset_id_to_contiguous_id) if instances else None,
        postprocessed=True,
    )


def _dense_name(model: nn.Module) -> str:
    return f"{'RetinaNet' if isinstance(model, RetinaNet) else 'FCOS'} ({type(model).__name__})"


def _rcnn(model: nn.Module) -> Family:
    heads: Any = model.roi_heads
    _require_proposals(model.proposal_generator)
    if not isinstance(heads, (StandardROIHeads, Res5ROIHeads)):
        return own_family(model, heads)
    # Res5ROIHeads has no keypoint head, whatever the config says.
    masks, keypoints = bool(heads.mask_on), bool(getattr(heads, "keypoint_on", False))
    outputs = _DETECTIONS + (MASKS,) * masks + (KEYPOINTS,) * keypoints
    predictor: Any = heads.box_predictor
    if isinstance(predictor, nn.ModuleList):  # of a cascade; the last stage decides
        predictor = predictor[-1]
    panoptic = None
    name = f"{_kind(heads, masks, keypoints)} {_backbone_kind(model)}"
    if isinstance(model, PanopticFPN):
        if not masks:
            raise UnsupportedFamily(
                "PanopticFPN without masks cannot be exported: it merges masks, and detectron2 "
                "itself fails without them. Set MODEL.MASK_ON True."
            )
        name = f"Panoptic FPN ({name})"
        outputs = (*outputs, SEM_SEG)
        panoptic = PanopticMerge(
            overlap_thresh=float(model.combine_overlap_thresh),
            stuff_area_limit=int(model.combine_stuff_area_thresh),
            instances_confidence_thresh=float(model.combine_instances_score_thresh),
        )
    return Family(
        name,
        outputs,
        heads.num_classes,
        predictor.test_score_thresh,
        predictor.test_nms_thresh,
        predictor.test_topk_per_image,
        XYWHA_ABS if isinstance(heads, RROIHeads) else XYXY_ABS,
        panoptic,
        makes_details=makes_details(model),
        most_proposals=getattr(model.proposal_generator, "post_nms_topk", {}).get(False),
    )


def _kind(heads: nn.Module, masks: bool, keypoints: bool) -> str:
    if isinstance(heads, RROIHeads):
        return "Rotated R-CNN"
    cascade = "Cascade " if isinstance(heads, CascadeROIHeads) else ""
    if masks and any("PointRend" in base.__name__ for base in type(heads.mask_head).__mro__):
        return f"{cascade}PointRend R-CNN"
    kinds = {
        (False, False): "R-CNN" if cascade else "Faster R-CNN",
        (True, False): "Mask R-CNN",
        (False, True): "Keypoint R-CNN",
        (True, True): "Mask and Keypoint R-CNN",
    }
    return cascade + kinds[masks, keypoints]


def _semantic_kind(model: SemanticSegmentor) -> str:
    head: Any = model.sem_seg_head
    # A project's heads are known by name, since a project may not be installed.
    names = {base.__name__ for base in type(head).__mro__}
    for name, kind in _SEMANTIC_HEADS.items():
        if name in names:
            return kind
    return _backbone_kind(model)


def _backbone_kind(model: nn.Module) -> str:
    backbone: Any = model.backbone
    if isinstance(backbone, SimpleFeaturePyramid) and isinstance(backbone.net, ViT):
        return "ViTDet"
    if isinstance(backbone, (FPN, SimpleFeaturePyramid)):
        kind = type(getattr(backbone, "bottom_up", None)).__name__
        return "FPN" if kind == "ResNet" else f"{_KNOWN_AS.get(kind, kind)} FPN"
    if isinstance(getattr(model, "roi_heads", None), Res5ROIHeads):
        return "C4"
    features = getattr(backbone, "_out_feature_strides", {})
    if type(backbone).__name__ == "ResNet" and features.get("res5") == 16:
        return "DC5"
    if type(backbone).__name__ == "ResNet" and "res5" not in features:
        return "C4"
    return f"on {type(backbone).__name__}"


def _refuse_projects(model: nn.Module) -> None:
    if isinstance(model, GeneralizedRCNNWithTTA):
        raise UnsupportedFamily(
            "GeneralizedRCNNWithTTA runs the model on many copies of an image and merges in "
            "Python: no program can hold it. Export the model inside it, without the augmentation."
        )
    parts = (model, getattr(model, "roi_heads", None), getattr(model, "sem_seg_head", None))
    refuse_projects(base.__name__ for part in parts for base in type(part).__mro__)


def refuse_projects(names: Iterable[str]) -> None:
    """Make sure that no class is of a project of detectron2's that cannot be exported.

    Args:
        names: of classes, as they are or as a config has them.

    Raises:
        UnsupportedFamily: one is; the message says why its family cannot be exported.
    """
    for name in names:
        for project, reason in _PROJECTS.items():
            if project in name:
                raise UnsupportedFamily(
                    f"{project} is not exported: {reason}. Serve it with eager detectron2, or "
                    "train a Mask R-CNN in its place."
                )


def _require_proposals(generator: Any) -> None:
    if generator is None:
        raise UnsupportedFamily(
            "The model works on precomputed proposals (Fast R-CNN), which a client cannot send "
            "with an image. Export a model with a proposal generator of its own (RPN)."
        )
