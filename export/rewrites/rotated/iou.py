"""IoU of rotated boxes in plain operators: no server has detectron2's compiled ones.

Upstream (layers/csrc/box_iou_rotated) collects the corners of each box inside the other and the
crossings of their edges, and takes the area of their convex hull, in float32 and with tolerances.
For nearly coinciding boxes these lose part of the area. The same steps are taken here on
all pairs at once, in the same order and precision, so as to answer what detectron2 answers:
an exact area would keep other boxes after suppression.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

import torch
from torch import Tensor


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of every box with every other.

    Args:
        boxes1: (N, 5) float32: centre x and y, width, height, degrees counterclockwise.
        boxes2: (M, 5).

    Returns:
        (N, M) float32.
    """
    found = torch.zeros(
        (boxes1.shape[0], boxes2.shape[0]), dtype=torch.float32, device=boxes1.device
    )
    first, second = boxes1.float(), boxes2.float()
    near = may_meet(first.unsqueeze(1), second.unsqueeze(0)).nonzero()
    rows, columns = near[:, 0], near[:, 1]
    found[rows, columns] = paired_iou(first[rows], second[columns])
    return found


def may_meet(first: Tensor, second: Tensor) -> Tensor:
    """Whether two boxes are near enough to overlap at all: cheap, and never wrongly False.

    Args:
        first: (..., 5) float32.
        second: of a shape that broadcasts with it.
    """
    x, y = first[..., 0] - second[..., 0], first[..., 1] - second[..., 1]
    reach = _reach(first) + _reach(second)
    return ~(x * x + y * y > reach * reach)


def _reach(boxes: Tensor) -> Tensor:
    width, height = boxes[..., 2], boxes[..., 3]
    # Half a diagonal, and as far outside a side as upstream's tolerances (below) still count.
    diagonal = (width * width + height * height).sqrt()
    return diagonal * 0.5001 + 2e-5 / torch.minimum(width, height)


def paired_iou(first: Tensor, second: Tensor, chunk: int = 8192) -> Tensor:
    """Intersection over union of each box with its partner.

    Args:
        first: (P, 5) float32.
        second: (P, 5) float32.
        chunk: pairs worked on at a time: they should fit into a core's cache.

    Returns:
        (P,) float32.
    """
    found = torch.zeros_like(first[:, 0])
    for start in range(0, first.shape[0], chunk):
        stop = start + chunk
        found[start:stop] = _chunk_iou(first[start:stop], second[start:stop])
    return found


def _chunk_iou(first: Tensor, second: Tensor) -> Tensor:
    # Coordinates between the two centres are small, hence precise.
    middle = (first[:, :2] + second[:, :2]) / 2
    x, y, inside = _candidates(
        _corners(first[:, :2] - middle, first), _corners(second[:, :2] - middle, second)
    )
    number = inside.sum(0)
    x, y = _first_rows(x, inside, number), _first_rows(y, inside, number)
    overlap = _hull_area(x, y, number)
    overlap = torch.where(number <= 2, torch.zeros_like(overlap), overlap)
    area1, area2 = first[:, 2] * first[:, 3], second[:, 2] * second[:, 3]
    iou = overlap / (area1 + area2 - overlap)
    return torch.where((area1 < 1e-14) | (area2 < 1e-14), torch.zeros_like(iou), iou)


def _corners(centre: Tensor, boxes: Tensor) -> Tensor:
    """(2, 4, P): x and y of the corners, one after another around each box."""
    # Upstream's constant: it is not pi / 180 to full precision.
    theta = boxes[:, 4].double() * 0.01745329251
    cos, sin = torch.cos(theta).float() * 0.5, torch.sin(theta).float() * 0.5
    x, y, width, height = centre[:, 0], centre[:, 1], boxes[:, 2], boxes[:, 3]
    x0, y0 = x + sin * height + cos * width, y + cos * height - sin * width
    x1, y1 = x - sin * height + cos * width, y - cos * height - sin * width
    return torch.stack(
        (
            torch.stack((x0, x1, 2 * x - x0, 2 * x - x1)),
            torch.stack((y0, y1, 2 * y - y0, 2 * y - y1)),
        )
    )


def _candidates(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(24, P) each: x, y and validity of 16 crossings, 4 corners of a and 4 corners of b."""
    along_a, along_b = a.roll(-1, 1) - a, b.roll(-1, 1) - b
    apart = b.unsqueeze(1) - a.unsqueeze(2)  # (2, edge of a, edge of b, P)
    edge_a, edge_b = along_a.unsqueeze(2), along_b.unsqueeze(1)
    det = edge_b[0] * edge_a[1] - edge_a[0] * edge_b[1]
    t = (edge_b[0] * apart[1] - apart[0] * edge_b[1]) / det
    u = (edge_a[0] * apart[1] - apart[0] * edge_a[1]) / det
    crossing = (det.abs() > 1e-14) & (t > -1e-5) & (t < 1.00001) & (u > -1e-5) & (u < 1.00001)
    x, y = a[0].unsqueeze(1) + edge_a[0] * t, a[1].unsqueeze(1) + edge_a[1] * t
    return (
        torch.cat((x.flatten(0, 1), a[0], b[0])),
        torch.cat((y.flatten(0, 1), a[1], b[1])),
        torch.cat((crossing.flatten(0, 1), _within(a, b, along_b), _within(b, a, along_a))),
    )


def _within(points: Tensor, box: Tensor, along: Tensor) -> Tensor:
    """(4, P): which corners lie in a box, by their projections on two sides that meet."""
    apart = points - box[:, :1]
    side, other = along[:, :1], along[:, 3:]
    on_side = apart[0] * side[0] + apart[1] * side[1]
    on_other = -(apart[0] * other[0] + apart[1] * other[1])
    # Upstream adds the tolerance in float64: in float32 it would vanish beside a squared side.
    side_end = (side[0] * side[0] + side[1] * side[1]).double() + 1e-5
    other_end = (other[0] * other[0] + other[1] * other[1]).double() + 1e-5
    begins = (on_side > -1e-5) & (on_other > -1e-5)
    return begins & (on_side.double() < side_end) & (on_other.double() < other_end)


def _first_rows(values: Tensor, valid: Tensor, number: Tensor) -> Tensor:
    """What is valid moved up, in its order; as many rows as any column needs, and 3 at least."""
    rows = max(int(number.max()), 3)
    place = torch.where(valid, valid.cumsum(0) - 1, torch.full_like(number, rows))
    moved = torch.zeros((rows + 1, values.shape[1]), dtype=values.dtype, device=values.device)
    return moved.scatter_(0, place.clamp(max=rows), values)[:rows]


def _hull_area(x: Tensor, y: Tensor, number: Tensor) -> Tensor:
    """(P,): area of the convex hull of the first ``number`` points of each column."""
    x, y = _from_lowest_point(x, y, number)
    _sort_by_angle(x, y, number)
    size = _scan(x, y, number)
    area = torch.zeros_like(x[0])
    for row in range(1, x.shape[0] - 1):
        triangle = (x[row] * y[row + 1] - x[row + 1] * y[row]).abs()
        area = area + torch.where(row < size - 1, triangle, torch.zeros_like(triangle))
    return area / 2


def _from_lowest_point(x: Tensor, y: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates from the point of least y, then least x, which changes places with the first."""
    unused = torch.arange(x.shape[0], device=x.device).unsqueeze(1) >= number
    least = y.masked_fill(unused, float("inf")).amin(0)
    lowest = (y == least) & ~unused
    left = x.masked_fill(~lowest, float("inf")).amin(0)
    start = (lowest & (x == left)).int().argmax(0, keepdim=True)
    x, y = x - x.gather(0, start), y - y.gather(0, start)
    return x.scatter(0, start, x[:1]).index_fill(0, _zero(x), 0.0), y.scatter(
        0, start, y[:1]
    ).index_fill(0, _zero(y), 0.0)


def _zero(like: Tensor) -> Tensor:
    return torch.zeros(1, dtype=torch.int64, device=like.device)


def _sort_by_angle(x: Tensor, y: Tensor, number: Tensor) -> None:
    """Sort in place, all but the first row; nearly equal angles by distance.

    It has to be upstream's exchange sort: its comparison is not transitive, so that another way
    of sorting would give another order.
    """
    distance = x * x + y * y
    for i in range(1, x.shape[0] - 1):
        xi, yi, di = x[i], y[i], distance[i]
        for j in range(i + 1, x.shape[0]):
            xj, yj, dj = x[j], y[j], distance[j]
            turn = xi * yj - xj * yi
            swap = (turn < -1e-6) | ((turn.abs() < 1e-6) & (di > dj))
            swap = swap & (number > j)
            # All six first: xj and its like are views of what is written below.
            new_x, new_y = torch.where(swap, xj, xi), torch.where(swap, yj, yi)
            new_d = torch.where(swap, dj, di)
            x[j], y[j] = torch.where(swap, xi, xj), torch.where(swap, yi, yj)
            distance[j] = torch.where(swap, di, dj)
            xi, yi, di = new_x, new_y, new_d
        x[i], y[i], distance[i] = xi, yi, di


def _scan(x: Tensor, y: Tensor, number: Tensor) -> Tensor:
    """Graham's scan in place, all columns a step at a time; how many points each hull has."""
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    apart = (x * x + y * y > 1e-8) & (rows >= 1) & (rows < number)
    # Behind points that coincide with the first; 1 of them is left where all do.
    second = apart.int().argmax(0, keepdim=True)
    single = second[0] == 0
    x[1], y[1] = x.gather(0, second)[0], y.gather(0, second)[0]
    size = torch.where(single, torch.ones_like(number), torch.full_like(number, 2))
    at = torch.where(single, number, second[0] + 1)
    while bool((at < number).any()):
        active = at < number
        point = at.clamp(max=x.shape[0] - 1).unsqueeze(0)
        top, under = (size - 1).unsqueeze(0), (size - 2).clamp(min=0).unsqueeze(0)
        px, py = x.gather(0, point)[0], y.gather(0, point)[0]
        ux, uy = x.gather(0, under)[0], y.gather(0, under)[0]
        ax, ay = px - ux, py - uy
        bx, by = x.gather(0, top)[0] - ux, y.gather(0, top)[0] - uy
        drop = active & (size > 1) & (ax * by >= bx * ay)
        push = active & ~drop
        place = torch.where(push, size, at.clamp(max=x.shape[0] - 1)).unsqueeze(0)
        x.scatter_(0, place, px.unsqueeze(0))
        y.scatter_(0, place, py.unsqueeze(0))
        size = size + push.long() - drop.long()
        at = at + push.long()
    return size
