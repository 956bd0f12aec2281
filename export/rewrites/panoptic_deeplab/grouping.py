"""Groups pixels into things and stuff as Panoptic-DeepLab does, without loops over the data.

detectron2 does it in Python (projects/panoptic_deeplab/post_processing.py): it looks at one
instance after another, which no trace can follow. The same answer in tensors is made of a table of
how many pixels each instance has of each class.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Tuple  # noqa: UP035  # TorchScript reads these

import torch
from torch import Tensor
from torch.nn import functional

# ruff: noqa: UP006


def centers_of(heatmap: Tensor, threshold: float, nms_kernel: int, top_k: int) -> Tensor:
    """(K, 2) y and x of instances' centers, in the order of rows and columns.

    Args:
        heatmap: (1, H, W), how much a pixel is a center.
        threshold: below it nothing is one.
        nms_kernel: side, in pixels, of the square in which only the highest is one.
        top_k: how many are kept, -1 for all. As in detectron2 the last of them is left out.
    """
    hot = torch.where(heatmap > threshold, heatmap, torch.full_like(heatmap, -1.0))
    padding = (nms_kernel - 1) // 2
    highest = functional.max_pool2d(hot, nms_kernel, stride=1, padding=padding)
    peaks = torch.where(hot == highest, hot, torch.full_like(hot, -1.0))[0]
    least = torch.zeros_like(peaks[0, 0])
    if top_k >= 0:
        least = torch.topk(peaks.flatten(), top_k)[0][-1].clamp(min=0)
    return torch.nonzero(peaks > least)


def nearest_of(centers: Tensor, offsets: Tensor) -> Tensor:
    """(H, W) number, from 1, of the center that each pixel points nearest to; 0 without any.

    Args:
        centers: (K, 2) y and x.
        offsets: (2, H, W) y and x, in pixels, from each pixel to the center of its instance.
    """
    rows = torch.ones_like(offsets[0]).cumsum(0) - 1
    columns = torch.ones_like(offsets[0]).cumsum(1) - 1
    pointed_to = (torch.stack((rows, columns)) + offsets).flatten(1).T.unsqueeze(0)
    # One more, 1e9 pixels away, which is taken only where there is no other.
    far = torch.full_like(pointed_to[0, :1], 1e9)
    known = torch.cat((centers.to(offsets.dtype), far)).unsqueeze(1)
    nearest = torch.argmin(torch.norm(known - pointed_to, dim=-1), dim=0) + 1
    nearest = nearest * (nearest <= centers.shape[0]).to(nearest.dtype)
    return nearest.reshape(offsets.shape[1], offsets.shape[2])


def segments_of(
    classes: Tensor,
    instances: Tensor,
    count: int,
    is_thing: Tensor,
    label_divisor: int,
    stuff_area: int,
) -> Tuple[Tensor, Tensor]:
    """Each pixel's segment, and what each segment is.

    An instance has the class of most of its pixels. Stuff is what belongs to no instance.

    Args:
        classes: (H, W) int64, the class of each pixel.
        instances: (H, W) int64, the number of its instance, 0 for none.
        count: of instances.
        is_thing: (C,) int64, 1 for classes of things.
        label_divisor: detectron2's label of a segment is its class times this, plus its number.
        stuff_area: stuff of fewer pixels is left out.

    Returns:
        (H, W) int64 ids, from 1 in the order of detectron2's labels, 0 for void; and (S, 4) int64
        with id, class, whether it is a thing, and detectron2's label.
    """
    kinds = is_thing.shape[0]
    instances = instances * is_thing[classes]
    pairs = (instances * kinds + classes).flatten()
    counted = torch.zeros_like(is_thing).to(torch.float32).repeat(count + 1)
    counted = counted.scatter_add(0, pairs, torch.ones_like(pairs).to(torch.float32))
    counts = counted.reshape(-1, kinds)

    thing_class = counts[1:].argmax(dim=1)
    there = (counts[1:].sum(dim=1) > 0).to(torch.int64)
    of_class = (thing_class.unsqueeze(1) == torch.ones_like(is_thing).cumsum(0) - 1).to(torch.int64)
    number = ((of_class * there.unsqueeze(1)).cumsum(0) * of_class).sum(dim=1)
    thing_label = thing_class * label_divisor + number
    thing_label = torch.where(there > 0, thing_label, torch.full_like(number, -1))

    kind = torch.ones_like(is_thing).cumsum(0) - 1
    large = (counts[0] >= stuff_area) & (counts[0] > 0) & (is_thing == 0)
    stuff_label = torch.where(large, kind * label_divisor, torch.full_like(kind, -1))

    labels = torch.cat((stuff_label, thing_label))
    is_kept = labels >= 0
    order = torch.argsort(torch.where(is_kept, labels, labels.max() + 1))
    place = torch.zeros_like(order).scatter(0, order, torch.ones_like(order).cumsum(0))
    ids = place * is_kept.to(torch.int64)
    pixels = torch.where(instances > 0, instances + (kinds - 1), classes)

    table = torch.stack(
        (
            ids,
            torch.cat((kind, thing_class)),
            torch.cat((torch.zeros_like(kind), there)),
            labels,
        ),
        dim=1,
    )
    kept = is_kept.to(torch.int64).sum()
    return ids[pixels], table[order][:kept]
