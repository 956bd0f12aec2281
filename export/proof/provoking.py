"""Images that provoke a doubt: on either side of the numbers that doubtful lines compare with.

A number may be one of pixels or of instances; the source does not say, so both are tried, as far as
the sizes of the model's input allow. Beside them, the widest and the tallest image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from d2serve.export.programs.doubting.doubts import Doubt
from d2serve.export.reading.image_files import Pixels

# Beyond any padding that a backbone asks for, mostly.
_MARGIN = 64
# Of an image for a model that does not resize; a strip's other side is made to fit.
_MOST_PIXELS = 2_000_000
_LONGEST, _SHORT = 4096, 320
_MOST_IMAGES = 16
# How often the sample stands side by side and one upon another.
_CROWDS = ((2, 1), (3, 1), (2, 2), (3, 3), (4, 4))


@dataclass(frozen=True)
class Reach:
    """How large the images are that a model gets, and how much it finds in one."""

    min_size: int
    """ResizeShortestEdge's short edge; 0 leaves an image as it is."""
    max_size: int
    most_instances: int
    """That the model finds in an image; 0 where it finds none ever."""

    @property
    def short(self) -> int:
        """Of a long image, in pixels."""
        return self.min_size or _SHORT

    @property
    def longest(self) -> int:
        """The longest side that is tried, in pixels."""
        return self.max_size if self.min_size else _LONGEST


def provoking_images(
    sample: Pixels,
    doubts: Sequence[Doubt],
    reach: Reach,
    count: Callable[[Pixels], int],
) -> tuple[dict[str, Pixels], tuple[str, ...]]:
    """Images for the doubts about a program, by name.

    Args:
        sample: the sample image.
        doubts: about the program; none give no images.
        reach: of the model.
        count: how many instances the model finds in an image.

    Returns:
        The images, and the counts of instances that no image reached.
    """
    if not doubts:
        return {}, ()
    limits = sorted({limit for doubt in doubts for limit in doubt.thresholds})
    images: dict[str, Pixels] = {}
    for height, width in dict.fromkeys(_shapes(limits, reach)):
        if len(images) < _MOST_IMAGES:
            images[f"{width} wide, {height} tall"] = _filled(sample, height, width)
    crowds, not_reached = _crowds(sample, limits, reach.most_instances, count)
    return {**images, **crowds}, not_reached


def _shapes(limits: Sequence[float], reach: Reach) -> Iterator[tuple[int, int]]:
    """(height, width), the widest and the tallest first; each as the model gets it."""
    longest = reach.longest
    narrow = min(reach.short, _MOST_PIXELS // longest)
    yield (narrow, longest)
    yield (longest, narrow)
    for limit in limits:
        for side in (int(limit) + _MARGIN, int(limit) - _MARGIN):
            if reach.short <= side <= longest:
                yield (reach.short, side)
                yield (side, reach.short)
            elif 1 < side < reach.short:  # as short as the longest side makes it
                yield (side, longest)
                yield (longest, side)


def _crowds(
    sample: Pixels, limits: Sequence[float], most: int, count: Callable[[Pixels], int]
) -> tuple[dict[str, Pixels], tuple[str, ...]]:
    missing = [limit for limit in limits if count(sample) <= limit <= most]
    found: dict[str, Pixels] = {}
    for across, down in _CROWDS:
        if not missing:
            break
        image = _filled(sample, sample.shape[0] * down, sample.shape[1] * across)
        instances = count(image)
        if instances > missing[0]:
            found[f"crowd of {instances}"] = image
            missing = [limit for limit in missing if instances <= limit]
    return found, tuple(f"more than {limit:g}" for limit in missing)


def _filled(sample: Pixels, height: int, width: int) -> Pixels:
    """The sample again and again, each beside its mirror image, from the upper left."""
    pair = np.concatenate([sample, sample[:, ::-1]], axis=1)
    times = (-(-height // pair.shape[0]), -(-width // pair.shape[1]), 1)
    return np.ascontiguousarray(np.tile(pair, times)[:height, :width])
