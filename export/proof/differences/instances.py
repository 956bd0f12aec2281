"""What differs between the instances, or the proposals, of two answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from d2serve.export.proof.comparing.instance_comparison import mask_differs, overlap
from d2serve.export.proof.differences.finding import (
    BOXES,
    CLASSES,
    EXTRA,
    KEYPOINTS,
    MASKS,
    MISSING,
    SCORES,
    UNEXPECTED,
    Finding,
    Region,
)
from d2serve.export.proof.differences.pairing import Pairing, Things
from d2serve.handlers.outputs.records import Detections, Float32, Outputs
from d2serve.handlers.replies.drawing import Legend
from d2serve.handlers.spec.bounds import Bounds

_SMALL = 0.1
"""Of a box's side: of a smaller difference the corner is shown, and not the whole box."""
_MARGIN = 12.0


def instance_findings(
    expected: Outputs, got: Outputs, pairing: Pairing, legend: Legend, bounds: Bounds
) -> Iterator[Finding]:
    """Each difference between the instances or proposals of two answers.

    Args:
        expected: eager detectron2's answer.
        got: the archive's.
        pairing: of their instances.
        legend: what the classes are called.
        bounds: within which they agree.
    """
    mine, theirs = Things.of(expected), Things.of(got)
    assert mine is not None  # they were paired
    assert theirs is not None
    is_proposal = expected.instances is None
    for i in pairing.missing:
        name = _name(mine, i, legend, is_proposal)
        yield _alone(MISSING, f"{name} is missing from the archive's answer", mine, i, True)
    for j in pairing.unexpected:
        name = _name(theirs, j, legend, is_proposal)
        yield _alone(UNEXPECTED, f"{name} is in the archive's answer only", theirs, j, False)
    for i, j in pairing.pairs:
        name = _name(mine, i, legend, is_proposal)
        weight = float(mine.scores[i])
        for each in _boxes(mine, theirs, i, j, name, is_proposal, bounds):
            yield each if each.field == SCORES else replace(each, share=weight * each.share)
        if expected.instances is not None and got.instances is not None:
            hull = _region(mine.hulls[i])
            for each in _fields(expected.instances, got.instances, (i, j), hull, name, bounds):
                yield replace(each, share=weight * each.share)
            if mine.classes[i] != theirs.classes[j]:
                other = legend.category(int(theirs.classes[j]))
                text = f"{name} is {other} in the archive's answer"
                yield Finding(CLASSES, text, 1.0, weight, True, hull, i, j)


def _alone(field: str, text: str, things: Things, index: int, mine: bool) -> Finding:
    score, region = float(things.scores[index]), _region(things.hulls[index])
    where = (index, None) if mine else (None, index)
    return Finding(field, text, score, score, True, region, *where)


def _boxes(
    mine: Things, theirs: Things, i: int, j: int, name: str, is_proposal: bool, bounds: Bounds
) -> Iterator[Finding]:
    apart = _corners_apart(mine.points[i], theirs.points[j])
    worst, hull = int(apart.argmax()), mine.hulls[i]
    most = float(apart[worst])
    if most > 0:
        side = float(max(hull[2:] - hull[:2])) or 1.0
        region = _region(
            np.concatenate(
                [
                    np.minimum(hull[:2], theirs.hulls[j][:2]),
                    np.maximum(hull[2:], theirs.hulls[j][2:]),
                ]
            )
        )
        if most < _SMALL * side:
            x, y = mine.points[i][worst].tolist()
            reach = max(_MARGIN, 6 * most)
            region = (x - reach, y - reach, x + reach, y + reach)
        text = f"the box of {name} by {most:.3g} px"
        share = min(1.0, most / side)
        yield Finding(BOXES, text, most, share, most > bounds.box_px, region, i, j)
    score = abs(float(mine.scores[i]) - float(theirs.scores[j]))
    if score > 0:
        what = "sigmoid of the objectness" if is_proposal else "score"
        text = f"the {what} of {name} by {score:.3g}"
        yield Finding(SCORES, text, score, score, score > bounds.score, _region(hull), i, j)


def _corners_apart(mine: Float32, theirs: Float32) -> npt.NDArray[np.float64]:
    """How far each corner is from the one that it stands for: a rotated box can be the same from
    another side, with another angle."""
    ways = [np.roll(theirs, turn, axis=0).astype(np.float64) - mine for turn in range(4)]
    distances = [np.abs(way).max(axis=1) for way in ways]
    return min(distances, key=lambda each: float(each.max()))


def _fields(
    expected: Detections,
    got: Detections,
    pair: tuple[int, int],
    hull: Region,
    name: str,
    bounds: Bounds,
) -> Iterator[Finding]:
    i, j = pair
    if expected.masks is not None and got.masks is not None:
        a, b = expected.masks[i], got.masks[j]
        if a != b:
            iou, pixels = overlap(a, b)
            differs = mask_differs(iou, pixels, bounds)
            text = f"the mask of {name} in {pixels:,} pixels (IoU {iou:.4f})"
            region = _where(_decoded(a) != _decoded(b), hull)
            yield Finding(MASKS, text, 1 - iou, 1 - iou, differs, region, i, j)
    if expected.keypoints is not None and got.keypoints is not None:
        yield from _keypoints(expected.keypoints[i], got.keypoints[j], pair, hull, name, bounds)
    for field in expected.extra:
        if field in got.extra:
            yield from _extra(
                expected.extra[field][i], got.extra[field][j], field, pair, hull, name, bounds
            )


def _keypoints(
    mine: npt.NDArray[np.float32],
    theirs: npt.NDArray[np.float32],
    pair: tuple[int, int],
    hull: Region,
    name: str,
    bounds: Bounds,
) -> Iterator[Finding]:
    apart = np.hypot(*(mine[:, :2].astype(np.float64) - theirs[:, :2]).T)
    if not apart.any():
        return
    worst = int(apart.argmax())
    most, side = float(apart[worst]), max(hull[2] - hull[0], hull[3] - hull[1], 1.0)
    ends = np.stack([mine[worst, :2], theirs[worst, :2]])
    region = _region(np.concatenate([ends.min(axis=0), ends.max(axis=0)]), max(_MARGIN, most))
    text = f"keypoint {worst} of {name} by {most:.3g} px"
    yield Finding(
        KEYPOINTS, text, most, min(1.0, most / side), most > bounds.keypoint_px, region, *pair
    )


def _extra(
    mine: npt.NDArray[np.generic],
    theirs: npt.NDArray[np.generic],
    field: str,
    pair: tuple[int, int],
    hull: Region,
    name: str,
    bounds: Bounds,
) -> Iterator[Finding]:
    most, share = extra_apart(mine, theirs)
    if most > 0:
        text = f"{field} of {name} by {most:.3g}"
        yield Finding(EXTRA, text, most, share, most > bounds.score, hull, *pair)


def extra_apart(
    mine: npt.NDArray[np.generic], theirs: npt.NDArray[np.generic]
) -> tuple[float, float]:
    """The greatest difference of a field of the model's own, and its share of the values."""
    if mine.shape != theirs.shape:
        return 1.0, 1.0
    a, b = np.nan_to_num(mine.astype(np.float64)), np.nan_to_num(theirs.astype(np.float64))
    most, scale = float(np.abs(a - b).max(initial=0.0)), float(np.abs(a).max(initial=0.0))
    return most, min(1.0, most / scale) if scale else float(most > 0)


def _name(things: Things, index: int, legend: Legend, is_proposal: bool) -> str:
    if is_proposal:
        return f"proposal {index}"
    category = legend.category(int(things.classes[index]))
    return f"instance {index} ({category} {things.scores[index]:.2f})"


def _where(differing: npt.NDArray[np.bool_], otherwise: Region) -> Region:
    """The box around pixels that differ."""
    y, x = np.nonzero(differing)
    if not len(x):
        return otherwise
    return _region(np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]), _MARGIN)


def _decoded(rle: object) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = coco_mask.decode(rle).astype(np.bool_)
    return mask


def _region(values: npt.NDArray[np.generic], margin: float = 0.0) -> Region:
    x0, y0, x1, y1 = (float(each) for each in values)
    return x0 - margin, y0 - margin, x1 + margin, y1 + margin
