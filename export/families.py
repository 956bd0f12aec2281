"""Why: what cannot be exported is refused by name before any work, not after a long traceback.

A family is recognised by the classes that the config's registered names stand for, so a custom
subclass counts as what it extends.
"""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    ROI_HEADS_REGISTRY,
    GeneralizedRCNN,
    PanopticFPN,
    RetinaNet,
)
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    Res5ROIHeads,
    RROIHeads,
    StandardROIHeads,
)

from d2serve.export.errors import ConfigError, UnsupportedFamily
from d2serve.handlers.model_spec import BOXES, CLASSES, KEYPOINTS, MASKS, SCORES

SUPPORTED = "Faster, Mask and Keypoint R-CNN (FPN, C4, DC5) and RetinaNet"


@dataclass(frozen=True)
class Family:
    """What a config builds."""

    name: str
    """For people, e.g. ``"Mask R-CNN FPN"``."""
    outputs: tuple[str, ...]
    """Fields of the raw Instances that the program answers, in its order."""
    is_rcnn: bool
    """GeneralizedRCNN (with masks pasted later) rather than RetinaNet."""
    num_classes: int
    score_thresh: float
    nms_thresh: float


def family_of(cfg: CfgNode) -> Family:
    """Recognise what a config builds.

    Raises:
        UnsupportedFamily: it cannot be exported yet.
        ConfigError: a registered name is not known.
    """
    architecture = _registered(META_ARCH_REGISTRY, cfg.MODEL.META_ARCHITECTURE)
    if cfg.INPUT.FORMAT not in ("BGR", "RGB"):
        raise UnsupportedFamily(
            f"INPUT.FORMAT is {cfg.INPUT.FORMAT}; DefaultPredictor, whose answer is served, takes "
            "BGR and RGB only."
        )
    if any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE):
        raise _unsupported("a backbone with deformable convolution")
    detections = (BOXES, SCORES, CLASSES)
    if issubclass(architecture, RetinaNet):
        head = cfg.MODEL.RETINANET
        return Family(
            "RetinaNet",
            detections,
            False,
            head.NUM_CLASSES,
            head.SCORE_THRESH_TEST,
            head.NMS_THRESH_TEST,
        )
    # PanopticFPN is a GeneralizedRCNN whose trace would silently drop its semantic outputs.
    if not issubclass(architecture, GeneralizedRCNN) or issubclass(architecture, PanopticFPN):
        raise _unsupported(cfg.MODEL.META_ARCHITECTURE)
    return _rcnn(cfg, detections)


def _rcnn(cfg: CfgNode, detections: tuple[str, ...]) -> Family:
    heads = _registered(ROI_HEADS_REGISTRY, cfg.MODEL.ROI_HEADS.NAME)
    proposals = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if cfg.MODEL.LOAD_PROPOSALS or proposals == "PrecomputedProposals":
        raise _unsupported("a model on precomputed proposals (Fast R-CNN)")
    if proposals == "RRPN" or issubclass(heads, RROIHeads):
        raise _unsupported(f"rotated boxes ({proposals}, {cfg.MODEL.ROI_HEADS.NAME})")
    if issubclass(heads, CascadeROIHeads):
        raise _unsupported(f"Cascade R-CNN ({cfg.MODEL.ROI_HEADS.NAME})")
    if not issubclass(heads, (StandardROIHeads, Res5ROIHeads)):
        raise _unsupported(f"{cfg.MODEL.META_ARCHITECTURE} with {cfg.MODEL.ROI_HEADS.NAME}")
    if cfg.MODEL.MASK_ON and "PointRend" in cfg.MODEL.ROI_MASK_HEAD.NAME:
        raise _unsupported(f"PointRend ({cfg.MODEL.ROI_MASK_HEAD.NAME})")
    masks = bool(cfg.MODEL.MASK_ON)
    # Res5ROIHeads has no keypoint head, whatever the config says.
    keypoints = bool(cfg.MODEL.KEYPOINT_ON) and issubclass(heads, StandardROIHeads)
    kind = {
        (False, False): "Faster R-CNN",
        (True, False): "Mask R-CNN",
        (False, True): "Keypoint R-CNN",
        (True, True): "Mask and Keypoint R-CNN",
    }[masks, keypoints]
    outputs = detections + (MASKS,) * masks + (KEYPOINTS,) * keypoints
    box_heads = cfg.MODEL.ROI_HEADS
    return Family(
        f"{kind} {_backbone_kind(cfg, heads)}",
        outputs,
        True,
        box_heads.NUM_CLASSES,
        box_heads.SCORE_THRESH_TEST,
        box_heads.NMS_THRESH_TEST,
    )


def _backbone_kind(cfg: CfgNode, heads: type) -> str:
    builder: str = cfg.MODEL.BACKBONE.NAME
    if "fpn" in builder.lower():
        return "FPN"
    if issubclass(heads, Res5ROIHeads):
        return "C4"
    if builder == "build_resnet_backbone" and cfg.MODEL.RESNETS.RES5_DILATION == 2:
        return "DC5"
    return f"on {builder}"


def _registered(registry: object, name: str) -> type:
    try:
        found: type = registry.get(name)  # type: ignore[attr-defined]
    except KeyError:
        raise ConfigError(
            f"{name} is not registered in detectron2. If it is yours, name the module that "
            "registers it: --import my.module"
        ) from None
    return found


def _unsupported(what: str) -> UnsupportedFamily:
    return UnsupportedFamily(f"{what} cannot be exported yet. Supported: {SUPPORTED}.")
