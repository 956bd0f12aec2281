"""The list of all rewrites, which the export applies and the doctor names."""

from __future__ import annotations

from torch import nn

from d2serve.export.errors import UnsupportedFamily, place_of
from d2serve.export.rewrites.backbones.mvit import MVIT, MVIT_ATTENTION, MVIT_BLOCK
from d2serve.export.rewrites.backbones.regnet import (
    ANY_NET,
    REGNET_BASIC_BLOCK,
    REGNET_BOTTLENECK_BLOCK,
)
from d2serve.export.rewrites.backbones.swin import (
    SWIN,
    SWIN_ATTENTION,
    SWIN_BLOCK,
    SWIN_EMBEDDING,
    SWIN_LAYER,
    SWIN_MERGING,
)
from d2serve.export.rewrites.backbones.swin_copies import SWIN_EMBEDDING_COPY, SWIN_LAYER_COPY
from d2serve.export.rewrites.backbones.vit import (
    SIMPLE_FEATURE_PYRAMID,
    VIT_ATTENTION,
    VIT_BLOCK,
    VIT_POSITIONS,
)
from d2serve.export.rewrites.config_lists import CONFIG_LISTS
from d2serve.export.rewrites.deform_conv.onnx_form import DEFORM_CONV_ONNX
from d2serve.export.rewrites.deform_conv.torchvision_form import DEFORM_CONV, MODULATED_DEFORM_CONV
from d2serve.export.rewrites.details import DETAILED_HEADS, DETAILED_RCNN
from d2serve.export.rewrites.endings import (
    PANOPTIC_FPN,
    PROPOSAL_NETWORK,
    SEMANTIC_SEGMENTOR,
    UPSTREAMS_ENDINGS,
    ScriptedOwn,
)
from d2serve.export.rewrites.heads.cascade import CASCADE_ROI_HEADS
from d2serve.export.rewrites.heads.fcos import FCOS_BOX_TRANSFORM, FCOS_HEAD
from d2serve.export.rewrites.heads.head_switches import RES5_ROI_HEADS, ROI_HEAD_SWITCHES
from d2serve.export.rewrites.heads.semantic_fpn import SEM_SEG_FPN_HEAD
from d2serve.export.rewrites.layers.aspp import ASPP_CHECK
from d2serve.export.rewrites.layers.batch_norm import (
    CYCLE_BATCH_NORM,
    NAIVE_SYNC_BATCH_NORM,
    SYNC_BATCH_NORM,
)
from d2serve.export.rewrites.layers.conv_activation import CONV_ACTIVATION
from d2serve.export.rewrites.layers.group_norm import GROUP_NORM_ONNX
from d2serve.export.rewrites.own_models.best_boxes import BEST_BOXES
from d2serve.export.rewrites.own_models.deformable_attention import (
    DEFORMABLE_ATTENTION,
    DEFORMABLE_ENCODER,
)
from d2serve.export.rewrites.own_models.endings import OwnEnding
from d2serve.export.rewrites.own_models.mask_queries import (
    MASK_QUERIES_INSTANCES,
    MASK_QUERIES_PANOPTIC,
)
from d2serve.export.rewrites.panoptic_deeplab.project import import_project
from d2serve.export.rewrites.rewrite import (
    SCRIPTING,
    TRACING,
    Rewrite,
    overridden,
    rewritten,
)
from d2serve.export.rewrites.rotated.heads import ROTATED_OUTPUT_LAYERS, RROI_HEADS
from d2serve.export.rewrites.rotated.proposals import ROTATED_ANCHORS, RRPN_PROPOSALS
from d2serve.export.rewrites.rotated.roi_align import ROI_ALIGN_ROTATED
from d2serve.handlers.spec.runtimes import TRACED_FORMATS


def _point_rend() -> tuple[Rewrite, ...]:
    try:  # a project, which not every installation of detectron2 brings
        from d2serve.export.rewrites.point_rend.mask_heads import POINT_REND
        from d2serve.export.rewrites.point_rend.point_heads import (
            CONV_FC_HEAD,
            IMPLICIT_POINT_HEAD,
            STANDARD_POINT_HEAD,
        )
        from d2serve.export.rewrites.point_rend.semantic import POINT_REND_SEMANTIC
    except ImportError:
        return ()
    return (
        POINT_REND,
        CONV_FC_HEAD,
        STANDARD_POINT_HEAD,
        IMPLICIT_POINT_HEAD,
        POINT_REND_SEMANTIC,
    )


def _deeplab() -> tuple[Rewrite, ...]:
    try:
        from d2serve.export.rewrites.heads.deeplab import DEEPLAB_V3_HEAD, DEEPLAB_V3_PLUS_HEAD
    except ImportError:
        return ()
    return (DEEPLAB_V3_HEAD, DEEPLAB_V3_PLUS_HEAD)


def _panoptic_deeplab() -> tuple[Rewrite, ...]:
    try:
        import_project()
        from d2serve.export.rewrites.panoptic_deeplab.heads import (
            PANOPTIC_DEEPLAB_INSTANCES,
            PANOPTIC_DEEPLAB_SEMANTIC,
        )
        from d2serve.export.rewrites.panoptic_deeplab.meta_arch import PANOPTIC_DEEPLAB
    except ImportError:
        return ()
    return (
        PANOPTIC_DEEPLAB,
        PANOPTIC_DEEPLAB_SEMANTIC,
        PANOPTIC_DEEPLAB_INSTANCES,
    )


PANOPTIC_DEEPLAB = _panoptic_deeplab()
"""Its end, then its heads; empty where detectron2 is without the project."""

_ENDINGS = (PANOPTIC_FPN, SEMANTIC_SEGMENTOR, PROPOSAL_NETWORK, *PANOPTIC_DEEPLAB[:1])
# PanopticFPN is a GeneralizedRCNN as well, with an ending of its own.
_ALL_ENDINGS = (*_ENDINGS, *UPSTREAMS_ENDINGS)

REWRITES: tuple[Rewrite, ...] = (
    *_ENDINGS,
    MASK_QUERIES_PANOPTIC,
    MASK_QUERIES_INSTANCES,
    DEFORMABLE_ENCODER,
    DEFORMABLE_ATTENTION,
    BEST_BOXES,
    CASCADE_ROI_HEADS,
    SEM_SEG_FPN_HEAD,
    ROI_HEAD_SWITCHES,
    RES5_ROI_HEADS,
    CONV_ACTIVATION,
    FCOS_BOX_TRANSFORM,
    FCOS_HEAD,
    DEFORM_CONV,
    MODULATED_DEFORM_CONV,
    DEFORM_CONV_ONNX,
    SYNC_BATCH_NORM,
    NAIVE_SYNC_BATCH_NORM,
    CYCLE_BATCH_NORM,
    GROUP_NORM_ONNX,
    ANY_NET,
    REGNET_BASIC_BLOCK,
    REGNET_BOTTLENECK_BLOCK,
    SIMPLE_FEATURE_PYRAMID,
    VIT_POSITIONS,
    VIT_BLOCK,
    VIT_ATTENTION,
    SWIN,
    SWIN_LAYER,
    SWIN_BLOCK,
    SWIN_MERGING,
    SWIN_ATTENTION,
    SWIN_EMBEDDING,
    SWIN_LAYER_COPY,
    SWIN_EMBEDDING_COPY,
    MVIT,
    MVIT_BLOCK,
    MVIT_ATTENTION,
    ROTATED_ANCHORS,
    RRPN_PROPOSALS,
    RROI_HEADS,
    ROTATED_OUTPUT_LAYERS,
    ROI_ALIGN_ROTATED,
    *_point_rend(),
    *_deeplab(),
    *PANOPTIC_DEEPLAB[1:],
    ASPP_CHECK,
    CONFIG_LISTS,
)
"""Beside UPSTREAMS_ENDINGS, which are no news."""


def known_ending(model: nn.Module) -> Rewrite | None:
    """How a model of detectron2's is ended in tensors, or None where it is one of the user's own.

    The user's own is also a subclass that overrides the end.
    """
    for ending in _ALL_ENDINGS:
        if isinstance(model, ending.replaces):
            return ending if overridden(model, ending) is None else None
    return None


def is_panoptic_deeplab(model: nn.Module) -> bool:
    """Whether a model is detectron2's Panoptic-DeepLab, as it is or extended before its end."""
    return any(known_ending(model) is ending for ending in PANOPTIC_DEEPLAB[:1])


def exportable(
    model: nn.Module,
    way: str,
    postprocessed: bool = False,
    own_forward: bool = False,
    in_detail: bool = False,
) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy of a model that one way of export takes.

    Args:
        model: detectron2's or the user's own; it is left as it is, and shares its weights with the
            copy.
        way: TRACING, SCRIPTING or a format.
        postprocessed: of a model whose own forward runs, whether it keeps its own postprocessing.
        own_forward: whether the forward of a model of detectron2's classes runs, as that of a model
            of the user's own does, since an equivalent would lose what its author's code adds.
        in_detail: of a model that ``makes_details``, whether it makes them only where asked.

    Returns:
        The copy, which answers ``List[Dict[str, Tensor]]`` with ``List[Dict[str, Tensor]]``, and
        the names of what upstream's own export would have failed at.

    Raises:
        UnsupportedFamily: a subclass overrides what would be replaced; the message names it.
    """
    changed, names = model, set[str]()
    for each in (TRACING, way) if way in TRACED_FORMATS else (way,):
        changed, done = rewritten(changed, each, rewrites_of(model, own_forward, in_detail))
        names.update(done)
    if own_forward or known_ending(model) is None:
        changed = _own(changed, way, postprocessed).train(model.training)
    return changed, tuple(rewrite.name for rewrite in REWRITES if rewrite.name in names)


def _own(model: nn.Module, way: str, postprocessed: bool) -> nn.Module:
    if way != SCRIPTING:
        return OwnEnding(model, postprocessed)
    if postprocessed:
        raise UnsupportedFamily(
            f"{type(model).__qualname__} ({place_of(type(model).forward)}) ends in postprocessing "
            "of its own, which cannot be scripted. Use --export-method tracing; or let forward end "
            "in detectron2's detector_postprocess, and before it return the list of Instances "
            "where torch.jit.is_scripting(), as detectron2's RetinaNet does."
        )
    return ScriptedOwn(model)


def rewrites_of(
    model: nn.Module, own_forward: bool = False, in_detail: bool = False
) -> tuple[Rewrite, ...]:
    """Those to choose from for a model, the outermost first."""
    rest = tuple(rewrite for rewrite in REWRITES if rewrite not in _ENDINGS)
    if in_detail:
        return (DETAILED_RCNN, *rest, *DETAILED_HEADS)
    ending = None if own_forward else known_ending(model)
    # Inside a model of the user's own, whatever is there has to answer as it does.
    return rest if ending is None else (ending, *rest)
