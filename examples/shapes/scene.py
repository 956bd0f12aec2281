"""One image of the data set and what can be seen on it.

Shapes are placed from back to front. A shape that would hide too much of an earlier one is not
drawn at all, so every shape in the picture is annotated and every annotation can be seen. Masks,
boxes and keypoints are taken after occlusion.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.shapes.backgrounds import random_background, stuff_background
from examples.shapes.geometry import FloatArray, Shape, random_shape
from examples.shapes.schema import KEYPOINT_DIRECTIONS, SPLITS, STUFF_SPLITS, check_split

# Height and width: landscape, portrait and square, from small to VGA, two at 1:2 and beyond.
IMAGE_SIZES = (
    (160, 240), (240, 160), (240, 320), (320, 240), (256, 384), (300, 300), (200, 400),
    (400, 200), (427, 640), (480, 640), (640, 480), (512, 384), (180, 480), (375, 500),
)  # fmt: skip
EMPTY_SHARE = 0.04
FEWEST_SHAPES, MOST_SHAPES = 3, 9
LEAST_VISIBLE_SHARE = 0.55
# Each class has a hue: what minutes of training on a CPU can learn is a scene with a strong cue.
CLASS_HUES = (0.0, 0.33, 0.61)
HUE_SPREAD = 0.05
LEAST_COLOUR_DISTANCE = 60.0
_PLACEMENT_TRIES = 60


@dataclass(frozen=True)
class SceneInstance:
    """What can be seen of one shape.

    ``mask`` is (height, width) bool. ``keypoints`` is (5, 3): continuous x and y in pixels and
    COCO's visibility: 2 seen, 1 hidden but within the visible box, 0 not annotated.
    """

    category: int
    mask: NDArray[np.bool_]
    keypoints: FloatArray


@dataclass(frozen=True)
class Scene:
    """``image`` is (height, width, 3) RGB uint8.

    ``stuff`` is (height, width) uint8 in a stuff split and None in others: what can be seen of the
    background, counting ``STUFF_NAMES`` from 1, and 0 where a shape is.
    """

    image: NDArray[np.uint8]
    instances: tuple[SceneInstance, ...]
    stuff: NDArray[np.uint8] | None = None


def render_scene(split: str, index: int, seed: int) -> Scene:
    """Image ``index`` of a split: it depends on these three alone, not on how many are made."""
    check_split(split)
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    height, width = IMAGE_SIZES[rng.integers(len(IMAGE_SIZES))]
    stuff = None
    if split in STUFF_SPLITS:
        canvas, stuff = stuff_background(rng, height, width)
    else:
        canvas = random_background(rng, height, width)
    owner = np.full((height, width), -1, dtype=np.int64)
    shapes: list[Shape] = []
    areas: list[int] = []
    wanted = 0
    if rng.random() >= EMPTY_SHARE:
        wanted = int(rng.integers(FEWEST_SHAPES, MOST_SHAPES + 1))
    largest = 0.28 - 0.008 * wanted
    for _ in range(_PLACEMENT_TRIES * bool(wanted)):
        radius = rng.uniform(0.12, largest) * min(height, width)
        # The centre keeps most of a shape inside, while some are cut by the border.
        low, high = 0.7 * radius, np.array([width, height]) - 0.7 * radius
        shape = random_shape(rng, rng.uniform(low, high), radius)
        distance, window = _local_distance(shape, height, width)
        inside = distance < 0.0
        if _hides_too_much(owner, areas, inside, window):
            continue
        _paint(rng, canvas[window], distance, radius, shape.category)
        owner[window][inside] = len(shapes)
        shapes.append(shape)
        areas.append(int(inside.sum()))
        if len(shapes) == wanted:
            break
    noise = rng.normal(0.0, rng.uniform(0.0, 6.0), size=canvas.shape)
    image = np.clip(canvas + noise, 0.0, 255.0).round().astype(np.uint8)
    seen = tuple(_instance(shape, owner, number) for number, shape in enumerate(shapes))
    if stuff is not None:
        stuff[owner >= 0] = 0
    return Scene(image, seen, stuff)


def _local_distance(
    shape: Shape, height: int, width: int
) -> tuple[FloatArray, tuple[slice, slice]]:
    """Signed distances around the shape, and the window of the image they cover."""
    left, top, right, bottom = shape.bounds()
    rows = slice(max(int(top) - 2, 0), min(int(bottom) + 3, height))
    columns = slice(max(int(left) - 2, 0), min(int(right) + 3, width))
    y = np.arange(rows.start, rows.stop, dtype=np.float64)[:, None] + 0.5
    x = np.arange(columns.start, columns.stop, dtype=np.float64)[None, :] + 0.5
    return shape.signed_distance(x, y), (rows, columns)


def _hides_too_much(
    owner: NDArray[np.int64],
    areas: list[int],
    inside: NDArray[np.bool_],
    window: tuple[slice, slice],
) -> bool:
    covered = owner[window][inside]
    for number in np.unique(covered[covered >= 0]):
        still_seen = int((owner == number).sum()) - int((covered == number).sum())
        if still_seen < LEAST_VISIBLE_SHARE * areas[number]:
            return True
    return False


def _paint(
    rng: np.random.Generator,
    canvas: NDArray[np.float32],
    distance: FloatArray,
    radius: float,
    category: int,
) -> None:
    """Draw into the window ``canvas`` in place, with smooth edges."""
    coverage = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
    beneath = (canvas * coverage).sum(axis=(0, 1)) / coverage.sum()
    colour = _colour_unlike(rng, beneath, CLASS_HUES[category])
    paint = colour + rng.normal(0.0, rng.uniform(0.0, 12.0), size=canvas.shape)
    if rng.random() < 0.5:
        thickness = rng.uniform(0.06, 0.16) * radius
        on_outline = np.clip(distance + thickness + 0.5, 0.0, 1.0)[..., None]
        paint = paint + on_outline * (colour * rng.uniform(0.2, 0.6) - paint)
    canvas += (coverage * (paint - canvas)).astype(np.float32)


def _colour_unlike(rng: np.random.Generator, other: FloatArray, class_hue: float) -> FloatArray:
    """A random RGB colour near a hue, drawn again until it is clearly not ``other``."""
    while True:
        hue = (class_hue + rng.uniform(-HUE_SPREAD, HUE_SPREAD)) % 1.0
        saturation, value = rng.uniform(0.7, 1.0), rng.uniform(0.5, 1.0)
        colour = 255.0 * np.array(colorsys.hsv_to_rgb(hue, saturation, value))
        if np.linalg.norm(colour - other) >= LEAST_COLOUR_DISTANCE:
            return colour


def _instance(shape: Shape, owner: NDArray[np.int64], number: int) -> SceneInstance:
    mask = owner == number
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    keypoints = np.zeros((len(KEYPOINT_DIRECTIONS), 3))
    for entry, direction in zip(keypoints, KEYPOINT_DIRECTIONS, strict=True):
        x, y = shape.outline_point(direction)
        if not (columns[0] <= x < columns[-1] + 1 and rows[0] <= y < rows[-1] + 1):
            continue
        # Outer keypoints lie on the outline itself; just inside it the owner is certain.
        probe_x, probe_y = shape.centre + 0.9 * (np.array([x, y]) - shape.centre)
        entry[:] = x, y, 2 if mask[int(probe_y), int(probe_x)] else 1
    return SceneInstance(shape.category, mask, keypoints)
