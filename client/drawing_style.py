"""Why: whatever is drawn looks like one picture: lines and letters follow the size of the image, a
category has the same colour wherever it appears, and names can be read on it.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2serve.client.errors import DrawingError

Pixels = NDArray[np.uint8]
"""(height, width, 3) in BGR, on which supervision draws."""

MASK_OPACITY = 0.42

_GOLDEN_RATIO_TURN = 0.618033988749895
_FIRST_HUE = 0.58
_THINGS, _STUFF = (0.85, 0.85), (0.45, 0.75)
"""Saturation and value: what can be counted stands out from what surrounds it."""


@dataclass(frozen=True)
class Style:
    """How large things are drawn. ``scale`` is 1 for an image of 640 x 640 pixels."""

    scale: float
    sv: Any
    """The supervision library."""

    @property
    def thickness(self) -> int:
        """Of the lines around a detection, in pixels."""
        return max(1, round(2 * self.scale))

    def by_category(self, categories: Sequence[int], *, stuff: bool = False) -> dict[str, Any]:
        """Arguments by which an annotator of supervision colours each of these categories."""
        palette = self.sv.ColorPalette(self._colours(categories, stuff))
        return {"color": palette, "color_lookup": self.sv.ColorLookup.CLASS}

    def labels(self, categories: Sequence[int], *, stuff: bool = False, **options: Any) -> Any:
        """The annotator that writes names, for detections of these categories."""
        colours = self._colours(categories, stuff)
        return self.sv.LabelAnnotator(
            text_color=self.sv.ColorPalette([_readable_on(self.sv, each) for each in colours]),
            text_scale=max(0.3, 0.45 * self.scale),
            text_thickness=max(1, round(self.scale)),
            text_padding=max(2, round(4 * self.scale)),
            smart_position=True,
            **self.by_category(categories, stuff=stuff),
            **options,
        )

    def _colours(self, categories: Sequence[int], stuff: bool) -> list[Any]:
        return [_colour(self.sv, number, stuff) for number in range(1 + max(categories))]


def supervision() -> Any:
    """The library that draws, which is loaded when there is something to draw."""
    try:
        import supervision
    except ImportError as error:
        raise DrawingError(
            f"Drawing needs the supervision library ({error}): `pip install supervision`, or "
            "`pip install 'd2serve[client]'`."
        ) from error
    return supervision


def _colour(sv: Any, number: int, stuff: bool) -> Any:
    """Hues a golden-ratio turn apart, so that neighbouring categories differ most."""
    hue = (_FIRST_HUE + number * _GOLDEN_RATIO_TURN) % 1.0
    saturation, value = _STUFF if stuff else _THINGS
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return sv.Color(r=round(255 * red), g=round(255 * green), b=round(255 * blue))


def _readable_on(sv: Any, background: Any) -> Any:
    """Black or white, by the background's luma (ITU-R BT.601)."""
    luma = 0.299 * background.r + 0.587 * background.g + 0.114 * background.b
    return sv.Color.BLACK if luma > 140 else sv.Color.WHITE
