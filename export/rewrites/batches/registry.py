"""Which models have an ONNX program that takes batches, and what is rewritten in them for it."""

from __future__ import annotations

from detectron2.modeling import GeneralizedRCNN, SemanticSegmentor
from detectron2.modeling.meta_arch import FCOS, ProposalNetwork, RetinaNet
from torch import nn

from d2serve.export.rewrites.batches.boxes import BOX_BATCHES, CASCADE_BATCHES
from d2serve.export.rewrites.batches.dense import DENSE_BATCHES
from d2serve.export.rewrites.batches.endings import LABEL_BATCHES
from d2serve.export.rewrites.batches.images import IMAGE_BATCHES
from d2serve.export.rewrites.batches.pooling import POOLING_BATCHES
from d2serve.export.rewrites.batches.proposals import PROPOSAL_BATCHES
from d2serve.export.rewrites.registry import exportable
from d2serve.export.rewrites.rewrite import ONNX, ONNX_BATCHES, Rewrite, rewritten

REWRITES: tuple[Rewrite, ...] = (
    *LABEL_BATCHES,
    *IMAGE_BATCHES,
    PROPOSAL_BATCHES,
    POOLING_BATCHES,
    BOX_BATCHES,
    CASCADE_BATCHES,
    *DENSE_BATCHES,
)
"""The outermost first."""

ENDS = (GeneralizedRCNN, RetinaNet, FCOS, SemanticSegmentor, ProposalNetwork)
"""Models whose end is written for batches."""


def _point_heads() -> tuple[type[nn.Module], ...]:
    try:  # a project, which not every installation of detectron2 brings
        from detectron2.projects.point_rend import ImplicitPointRendMaskHead, PointRendMaskHead
    except ImportError:
        return ()
    return PointRendMaskHead, ImplicitPointRendMaskHead


BY_IMAGE = _point_heads()
"""Modules that look for an image's features by its place in a list."""


def exportable_in_batches(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """As ``exportable`` for ONNX, of a model that is to answer several images in one call.

    The copy takes one dict with the two inputs of ``BATCH_INPUTS``, and answers one dict with what
    is there of all images.

    Raises:
        UnsupportedFamily: a subclass overrides what would be replaced; the message names it.
    """
    for_one, names = exportable(model, ONNX)
    changed, more = rewritten(for_one, ONNX_BATCHES, REWRITES)
    return changed, (*names, *more)
