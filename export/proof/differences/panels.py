"""Three pictures of one view: eager detectron2's answer, the archive's, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from d2serve.export.proof.differences.finding import KEYPOINTS, Finding, Region
from d2serve.export.proof.differences.label_maps import differing_pixels
from d2serve.export.proof.differences.pairing import Things
from d2serve.export.proof.differences.views import Mask, Pixels, Window
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.outputs.rle import Rle
from d2serve.handlers.replies.drawing import Legend, picture_of
from d2serve.handlers.replies.pen import Pen
from d2serve.handlers.replies.tinting import tint

EAGER, ARCHIVE, BOTH = (0, 200, 255), (255, 0, 200), (255, 230, 0)
"""The colours of what only eager has, of what only the archive has, and of labels that differ."""
_WHITE, _FAINT = (255, 255, 255), (150, 150, 150)


@dataclass(frozen=True)
class Subject:
    """Two answers to an image, and what differs."""

    pixels: Pixels
    """(H, W, 3)"""
    expected: Outputs
    got: Outputs
    findings: Sequence[Finding]
    """To be shown, by their numbers from 1 on."""
    legend: Legend


def panels_of(subject: Subject, window: Window) -> tuple[Image.Image, Image.Image, Image.Image]:
    """The three pictures of a part of an image."""
    pixels = window.pixels(subject.pixels)
    dim = (pixels * 0.6 + 70).clip(0, 255).astype(np.uint8)
    sides = Things.of(subject.expected), Things.of(subject.got)
    seen = _Seen(*(_visible(things, window) for things in sides))
    kept = [each for each in subject.findings if seen.has(each)]
    shown: tuple[set[int | None], set[int | None]]
    shown = {each.expected for each in kept}, {each.got for each in kept}
    if subject.expected.panoptic_seg is not None:  # the whole map is drawn, and the things in it
        shown = set(seen.expected), set(seen.got)
    mine = _drawn(dim, window, subject.expected, subject.legend, shown[0])
    theirs = _drawn(dim, window, subject.got, subject.legend, shown[1])
    return mine, theirs, _difference(subject, window, pixels, seen)


@dataclass(frozen=True)
class _Seen:
    """The indices of the instances of either side that lie in a window."""

    expected: frozenset[int]
    got: frozenset[int]

    def has(self, finding: Finding) -> bool:
        """Whether a difference lies in it: that of a map does, wherever most of it is."""
        if finding.expected is None and finding.got is None:
            return True
        return finding.expected in self.expected or finding.got in self.got


def _visible(things: Things | None, window: Window) -> frozenset[int]:
    if things is None or not len(things.scores):
        return frozenset()
    hulls = window.points(things.hulls.reshape(-1, 2, 2))
    inside = (hulls[:, 0] < window.shown).all(axis=1) & (hulls[:, 1] > 0).all(axis=1)
    return frozenset(np.flatnonzero(inside).tolist())


def _drawn(
    pixels: Pixels,
    window: Window,
    outputs: Outputs,
    legend: Legend,
    shown: set[int | None],
) -> Image.Image:
    """Some instances of one answer, and its map, as servers draw them."""
    kept = sorted(each for each in shown if each is not None)
    picture = picture_of(pixels, window.outputs(outputs, kept), legend)
    if outputs.proposals is not None:
        things = Things.of(outputs)
        assert things is not None  # there are proposals
        pen = Pen(picture)
        for index in kept:
            pen.box(window.points(things.points[index]), BOTH, thin=True)
    return picture


def _difference(subject: Subject, window: Window, pixels: Pixels, seen: _Seen) -> Image.Image:
    """Both answers on the image in grey: what only one of them has, in its colour."""
    canvas = _grey(pixels)
    changed = differing_pixels(subject.expected, subject.got)
    if changed is not None:
        _fill(canvas, window.any_of(changed), BOTH)
    for only_mine, only_theirs in _masks(subject):
        _fill(canvas, window.any_of(only_mine), EAGER)
        _fill(canvas, window.any_of(only_theirs), ARCHIVE)
    picture = Image.fromarray(canvas)
    pen = Pen(picture)
    mine, theirs = Things.of(subject.expected), Things.of(subject.got)
    if mine is not None and theirs is not None:
        for each in filter(seen.has, subject.findings):
            _boxes(pen, window, mine, theirs, each)
    _moves(picture, subject, window)
    _numbers(pen, subject, window, seen)
    pen.write_labels()
    return picture


def _boxes(pen: Pen, window: Window, mine: Things, theirs: Things, finding: Finding) -> None:
    """Each side's box in its colour; where the two look alike, one that is of neither."""
    sides = (mine, finding.expected, EAGER), (theirs, finding.got, ARCHIVE)
    boxes = [(window.points(has.points[i]), own) for has, i, own in sides if i is not None]
    if len(boxes) == 2 and np.abs(boxes[0][0] - boxes[1][0]).max() < 1:
        boxes = [(boxes[0][0], _FAINT)]
    for points, colour in boxes:
        pen.box(points, colour, thin=True)


def _masks(subject: Subject) -> list[tuple[Mask, Mask]]:
    """Of each pair that is shown, the pixels that one mask has and the other has not."""
    mine, theirs = subject.expected.instances, subject.got.instances
    if mine is None or theirs is None or mine.masks is None or theirs.masks is None:
        return []
    pairs = dict.fromkeys((each.expected, each.got) for each in subject.findings)
    shown = []
    for i, j in pairs:
        if i is not None and j is not None:
            a, b = _decoded(mine.masks[i]), _decoded(theirs.masks[j])
            shown.append((a & ~b, b & ~a))
    return shown


def _decoded(rle: Rle) -> Mask:
    return np.asarray(coco_mask.decode(rle).astype(np.bool_))


def _moves(picture: Image.Image, subject: Subject, window: Window) -> None:
    """From each keypoint of eager that lies elsewhere to the archive's."""
    mine, theirs = subject.expected.instances, subject.got.instances
    if mine is None or theirs is None or mine.keypoints is None or theirs.keypoints is None:
        return
    draw, radius = ImageDraw.Draw(picture), 3
    for each in subject.findings:
        if each.field != KEYPOINTS or each.expected is None or each.got is None:
            continue
        starts = window.points(mine.keypoints[each.expected][:, :2]).tolist()
        ends = window.points(theirs.keypoints[each.got][:, :2]).tolist()
        for start, end in zip(starts, ends):
            draw.line([*start, *end], fill=_WHITE, width=1)
            for (x, y), colour in ((start, EAGER), (end, ARCHIVE)):
                box = (x - radius, y - radius, x + radius, y + radius)
                draw.ellipse(box, outline=colour, width=2)


def _numbers(pen: Pen, subject: Subject, window: Window, seen: _Seen) -> None:
    """The number of each finding at its instance, or where most of it lies."""
    numbers: dict[tuple[int | None, int | None, Region | None], list[int]] = {}
    mine, theirs = Things.of(subject.expected), Things.of(subject.got)
    for number, each in enumerate(subject.findings, 1):
        if not seen.has(each):
            continue
        own = each.region if each.expected is None and each.got is None else None
        numbers.setdefault((each.expected, each.got, own), []).append(number)
    for (i, j, region), these in numbers.items():
        if region is not None:
            x0, y0, x1, y1 = region
            points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)
            pen.box(window.points(points), _WHITE, thin=True)
        elif i is not None and mine is not None:
            points = mine.points[i]
        else:
            assert j is not None  # one of the two there is
            assert theirs is not None
            points = theirs.points[j]
        pen.label_of_box(", ".join(map(str, these)), window.points(points), _WHITE)


def _grey(pixels: Pixels) -> Pixels:
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    dark = (grey * 0.5 + 40).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(dark[:, :, None], 3, axis=2))


def _fill(canvas: Pixels, mask: npt.NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    for _ in range(3):  # nearly opaque
        tint(canvas, mask, colour)
