"""Shapes as convex polygons, so that one formula serves every class.

A convex polygon is where the half planes of all its edges overlap. That makes both things the
renderer needs short: the signed distance is the largest over the edges, and a ray from the centre
leaves the shape at the nearest edge ahead. Coordinates are continuous image pixels, x right, y
down; the centre of the pixel in row r and column c is (c + 0.5, r + 0.5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.shapes.schema import CLASS_NAMES

FloatArray = NDArray[np.float64]
_CIRCLE_SIDES = 64


@dataclass(frozen=True)
class Shape:
    """One placed shape; ``polygon`` is a (vertices, 2) array, clockwise as seen on screen."""

    category: int
    centre: FloatArray
    polygon: FloatArray

    def signed_distance(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Distance in pixels to the outline, negative inside; x and y broadcast together.

        Exact inside and beside the edges; beyond a corner it is a lower bound, which only makes
        corners sharp.
        """
        normals, offsets = self._edges()
        distance: FloatArray = normals[0, 0] * x + normals[0, 1] * y - offsets[0]
        for (normal_x, normal_y), offset in zip(normals[1:], offsets[1:], strict=True):
            np.maximum(distance, normal_x * x + normal_y * y - offset, out=distance)
        return distance

    def outline_point(self, direction: tuple[float, float]) -> FloatArray:
        """Where the ray from the centre leaves the shape; the centre itself for (0, 0)."""
        ray = np.asarray(direction, dtype=np.float64)
        if not ray.any():
            return self.centre
        normals, offsets = self._edges()
        speed = normals @ ray
        # An edge along the ray is never met; rounding may still give it a tiny speed.
        ahead = speed > np.finfo(np.float32).eps
        reach = ((offsets - normals @ self.centre)[ahead] / speed[ahead]).min()
        point: FloatArray = self.centre + reach * ray
        return point

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the whole shape."""
        left, top = self.polygon.min(axis=0)
        right, bottom = self.polygon.max(axis=0)
        return float(left), float(top), float(right), float(bottom)

    def _edges(self) -> tuple[FloatArray, FloatArray]:
        """Outward unit normals, (n, 2), and their offsets, (n,): inside is normal . p < offset."""
        along = np.roll(self.polygon, -1, axis=0) - self.polygon
        normals = np.stack([along[:, 1], -along[:, 0]], axis=1)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return normals, (normals * self.polygon).sum(axis=1)


def random_shape(rng: np.random.Generator, centre: FloatArray, radius: float) -> Shape:
    """A shape of a random class, proportion and rotation within ``radius`` of ``centre``."""
    category = int(rng.integers(len(CLASS_NAMES)))
    outline = _OUTLINES[CLASS_NAMES[category]](rng)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, sin], [-sin, cos]])
    return Shape(category, centre, centre + radius * (outline @ rotation))


def _circle(_rng: np.random.Generator) -> FloatArray:
    angles = np.linspace(0.0, 2.0 * np.pi, _CIRCLE_SIDES, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _rectangle(rng: np.random.Generator) -> FloatArray:
    half_diagonal = np.arctan(rng.uniform(0.4, 1.0))
    signs = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    corners: FloatArray = signs * np.array([np.cos(half_diagonal), np.sin(half_diagonal)])
    return corners


def _triangle(rng: np.random.Generator) -> FloatArray:
    corners = np.deg2rad(np.array([-90.0, 30.0, 150.0]) + rng.uniform(-12.0, 12.0, size=3))
    polygon = np.stack([np.cos(corners), np.sin(corners)], axis=1)
    # Its centre is the centroid; a little smaller, as moving it pushes a corner out.
    smaller: FloatArray = 0.95 * (polygon - polygon.mean(axis=0))
    return smaller


_OUTLINES: dict[str, Callable[[np.random.Generator], FloatArray]] = {
    "circle": _circle,
    "rectangle": _rectangle,
    "triangle": _triangle,
}
