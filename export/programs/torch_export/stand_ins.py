"""detectron2's functions as torch.export takes them: the same answer for one image, as one graph.

torch.export runs a model's Python once, with sizes that are symbols. Where that Python asks a
tensor for a number, or compares how many boxes there are, it stops, or takes the answer for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.modeling import anchor_generator, poolers
from detectron2.modeling.meta_arch import fcos, retinanet
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.proposal_generator import rpn
from detectron2.modeling.roi_heads import fast_rcnn, keypoint_head
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor
from torch.nn import functional

from d2serve.export.programs.torch_export.suppression import batched_nms
from d2serve.export.programs.torch_export.symbols import at_most, first, fresh

_Size = tuple[int, int]


@contextmanager
def graph_of_one_image(
    num_classes: int, suppress: Callable[..., Tensor] = batched_nms
) -> Iterator[None]:
    """Within it, detectron2's models for one image are one graph.

    Args:
        num_classes: of the instances that the model finds.
        suppress: as ``batched_nms`` does.
    """
    by_class = partial(suppress, count=num_classes)
    with ExitStack() as stack:
        stack.enter_context(patch_builtin_len())
        stack.enter_context(_nms_of_any_result())
        for owner, name, stand_in in (
            (Boxes, "__init__", _boxes),
            (Boxes, "clip", _clip),
            (Instances, "set", _set),
            (ImageList, "from_tensors", staticmethod(_image_list)),
            (rpn, "find_top_rpn_proposals", partial(_proposals, suppress)),
            (fast_rcnn, "fast_rcnn_inference_single_image", partial(_detections, by_class)),
            (fast_rcnn, "batched_nms", by_class),
            (retinanet, "batched_nms", by_class),
            (fcos, "batched_nms", by_class),
            (poolers, "convert_boxes_to_pooler_format", _regions),
            (anchor_generator, "_create_grid_offsets", _grid),
            (DenseDetector, "_decode_per_level_predictions", _level),
            (keypoint_head, "heatmaps_to_keypoints", _no_keypoints),
        ):
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        yield


def _boxes(self: Any, tensor: Tensor) -> None:
    self.tensor = tensor.to(torch.float32)


def _clip(self: Any, box_size: _Size) -> None:
    height, width = box_size
    x0, y0, x1, y1 = self.tensor.unbind(1)
    self.tensor = torch.stack(
        (x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)), dim=-1
    )


def _set(self: Any, name: str, value: Any) -> None:
    self._fields[name] = value


def _image_list(
    tensors: Sequence[Tensor],
    size_divisibility: int = 0,
    pad_value: float = 0.0,
    padding_constraints: dict[str, int] | None = None,
) -> ImageList:
    """``ImageList.from_tensors`` (structures/image_list.py)."""
    (image,) = tensors
    height, width = image.shape[-2:]
    constraints = padding_constraints or {}
    stride = constraints.get("size_divisibility", size_divisibility)
    square = constraints.get("square_size", 0)
    if square > 0:
        image = functional.pad(image, [0, square - width, 0, square - height], value=pad_value)
    elif stride > 1:
        image = _in_whole_strides(image, stride, pad_value)
    return ImageList(image[None].contiguous(), [(height, width)])


def _in_whole_strides(image: Tensor, stride: int, pad_value: float) -> Tensor:
    # More than is wanted, of which the rest goes. So the sizes of all that follows are multiples
    # of two symbols, and torch sees that the levels of a pyramid fit.
    padded = functional.pad(image, [0, stride, 0, stride], value=pad_value)
    for axis in (1, 2):
        strides = fresh((image.shape[axis] + stride - 1) // stride)
        torch._check(strides >= 1)
        torch._check(strides * stride <= padded.shape[axis])
        padded = padded.narrow(axis, 0, strides * stride)
    return padded


def _proposals(
    suppress: Callable[..., Tensor],
    proposals: Sequence[Tensor],
    pred_objectness_logits: Sequence[Tensor],
    image_sizes: Sequence[_Size],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,  # noqa: ARG001 (the interface)
) -> list[Instances]:
    """``find_top_rpn_proposals`` (modeling/proposal_generator/proposal_utils.py)."""
    (size,) = image_sizes
    best_boxes: list[Tensor] = []
    best_scores: list[Tensor] = []
    levels: list[Tensor] = []
    for level, (boxes, logits) in enumerate(zip(proposals, pred_objectness_logits)):
        scores, indices = logits[0].topk(at_most(logits.shape[1], pre_nms_topk))
        best_scores.append(scores)
        best_boxes.append(boxes[0, indices])
        levels.append(torch.full_like(indices, level))
    boxes, scores, of_level = torch.cat(best_boxes), torch.cat(best_scores), torch.cat(levels)
    valid = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores)
    clipped = Boxes(boxes)
    clipped.clip(size)
    keep = valid & clipped.nonempty(threshold=min_box_size)
    boxes, scores, of_level = clipped.tensor[keep], scores[keep], of_level[keep]
    keep = first(post_nms_topk, suppress(boxes, scores, of_level, nms_thresh, count=len(proposals)))
    found = Instances(size)
    found.proposal_boxes = Boxes(boxes[keep])
    found.objectness_logits = scores[keep]
    return [found]


def _detections(
    suppress: Callable[..., Tensor],
    boxes: Tensor,
    scores: Tensor,
    image_shape: _Size,
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, Tensor]:
    """``fast_rcnn_inference_single_image`` (modeling/roi_heads/fast_rcnn.py)."""
    valid = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    scores = scores[:, :-1]
    kinds = boxes.shape[1] // 4
    clipped = Boxes(boxes.reshape(-1, 4))
    clipped.clip(image_shape)
    boxes = clipped.tensor.reshape(-1, kinds, 4)
    rows, classes = torch.nonzero((scores > score_thresh) & valid[:, None]).unbind(1)
    boxes = boxes[rows, 0] if kinds == 1 else boxes[rows, classes]
    scores = scores[rows, classes]
    keep = suppress(boxes, scores, classes, nms_thresh)
    if topk_per_image >= 0:
        keep = first(topk_per_image, keep)
    found = Instances(image_shape)
    found.pred_boxes = Boxes(boxes[keep])
    found.scores = scores[keep]
    found.pred_classes = classes[keep]
    return found, rows[keep]


def _regions(box_lists: Sequence[Boxes]) -> Tensor:
    """``convert_boxes_to_pooler_format`` (modeling/poolers.py): each box with its image's index."""
    (boxes,) = box_lists
    return functional.pad(boxes.tensor, [1, 0])


def _level(
    self: Any,
    anchors: Boxes,
    pred_scores: Tensor,
    pred_deltas: Tensor,
    score_thresh: float,
    topk_candidates: int,
    image_size: _Size,
) -> Instances:
    """``DenseDetector._decode_per_level_predictions`` (modeling/meta_arch/dense_detector.py)."""
    places, classes = torch.nonzero(pred_scores > score_thresh).unbind(1)
    scores = pred_scores[places, classes]
    scores, best = scores.topk(at_most(scores.shape[0], topk_candidates))
    places, classes = places[best], classes[best]
    boxes = self.box2box_transform.apply_deltas(pred_deltas[places], anchors.tensor[places])
    return Instances(image_size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)


def _no_keypoints(maps: Tensor, _rois: Tensor) -> Tensor:
    # The handler makes keypoints of the heat maps, as it does for ONNX.
    return maps.new_zeros((*maps.shape[:2], 4))


def _grid(size: _Size, stride: int, offset: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """``_create_grid_offsets`` (modeling/anchor_generator.py): the same numbers, exactly."""
    y, x = (
        torch.arange(side, dtype=torch.float32, device=like.device) * stride + offset * stride
        for side in size
    )
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return grid_x.reshape(-1), grid_y.reshape(-1)


@contextmanager
def _nms_of_any_result() -> Iterator[None]:
    """torchvision says that NMS keeps two boxes at least (_meta_registrations.py)."""
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]

    def shape_of_nms(boxes: Tensor, _scores: Tensor, _iou_threshold: float) -> Tensor:
        kept = torch.library.get_ctx().new_dynamic_size(min=0)
        return boxes.new_empty(kept, dtype=torch.int64)

    torch.library.register_fake("torchvision::nms", shape_of_nms, lib=library, allow_override=True)
    try:
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]
