"""Lines, dots and words on a picture, as large as suits it: a thumbnail is not all label, and the
lines on a photograph can be seen.
"""

from __future__ import annotations

import colorsys
import math
import unicodedata

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from d2serve.handlers.replies.tinting import Colour

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_FAR_AWAY = 1e6
_LEAST_FONT_SIZE = 9
_WIDEST_NAME = 0.4
"""Of the picture: on a thumbnail, names of regions would hide them."""

Box = tuple[float, float, float, float]


def colour_of(number: int, *, stuff: bool = False) -> Colour:
    """The colour of a category, wherever it appears.

    Hues are a golden ratio of a turn apart, so that neighbouring categories differ most. What can
    be counted stands out from the stuff around it.
    """
    hue = (0.58 + number * 0.618033988749895) % 1.0
    saturation, value = (0.45, 0.75) if stuff else (0.85, 0.85)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


class Pen:
    """Draws on one picture. Labels come last, when it is known where there is room for them."""

    def __init__(self, picture: Image.Image) -> None:
        self._draw = ImageDraw.Draw(picture)
        self._size = picture.size
        self._line = self.line_for(*picture.size)
        scale = _scale(*picture.size)
        self._radius = max(2, round(3 * scale))
        self._padding = max(1, round(3 * scale))
        self._font = _font(max(_LEAST_FONT_SIZE, round(14 * scale)))
        self._placed: list[tuple[str, Box, Colour]] = []

    @staticmethod
    def line_for(width: int, height: int) -> int:
        """How thick a line is on a picture of this size, in pixels."""
        return max(1, round(2.5 * _scale(width, height)))

    def box(self, points: npt.NDArray[np.float32], colour: Colour, *, thin: bool) -> None:
        """A line around four corners, (4, 2) of x and y."""
        near = np.clip(np.nan_to_num(points), -_FAR_AWAY, _FAR_AWAY).tolist()
        around = [(x, y) for x, y in (*near, *near[:2])]  # to the second, for the last joint
        width = max(1, self._line // 2) if thin else self._line
        self._draw.line(around, fill=colour, width=width, joint="curve")

    def dot(self, x: float, y: float) -> None:
        """White in a black ring."""
        if abs(x) < _FAR_AWAY and abs(y) < _FAR_AWAY:
            for radius, colour in ((self._radius + 1, _BLACK), (self._radius, _WHITE)):
                self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def label_of_box(self, text: str, points: npt.NDArray[np.float32], colour: Colour) -> None:
        """Place a label at a box: above it, or where else no other label is yet."""
        near = np.clip(np.nan_to_num(points), -_FAR_AWAY, _FAR_AWAY)
        (left, top), (right, bottom) = near.min(axis=0).tolist(), near.max(axis=0).tolist()
        text, width, height = self._measured(text)
        self._place(
            text,
            (width, height),
            colour,
            [
                (left, top - height),
                (left, top),
                (right - width, top - height),
                (left, bottom),
                (left, bottom - height),
                (right - width, bottom),
            ],
        )

    def label_at(self, text: str, centre: tuple[float, float], colour: Colour) -> None:
        """Place a label around a point, or a little above or below it, if it is not too large."""
        text, width, height = self._measured(text)
        if width > _WIDEST_NAME * self._size[0]:
            return
        left, top = centre[0] - width / 2, centre[1] - height / 2
        places = [(left, top + lines * height) for lines in (0, -1, 1, -2, 2)]
        self._place(text, (width, height), colour, places)

    def write_labels(self) -> None:
        """Write all labels that were placed, the first on top."""
        for text, box, colour in reversed(self._placed):
            self._draw.rectangle(box, fill=colour)
            luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]  # ITU-R BT.601
            at = (box[0] + self._padding, box[1] + self._padding)
            fill = _BLACK if luma > 140 else _WHITE
            self._draw.text(at, text, fill=fill, font=self._font)

    def _measured(self, text: str) -> tuple[str, float, float]:
        """The text as the font can write it, and the width and height of its label."""
        text = _in_ascii(text)
        box = self._draw.textbbox((0, 0), text, font=self._font)
        return text, box[2] + 2 * self._padding, box[3] + 2 * self._padding

    def _place(
        self,
        text: str,
        size: tuple[float, float],
        colour: Colour,
        places: list[tuple[float, float]],
    ) -> None:
        boxes = [self._within(left, top, *size) for left, top in places]
        free = [box for box in boxes if not any(_overlap(box, each[1]) for each in self._placed)]
        self._placed.append((text, (free or boxes)[0], colour))

    def _within(self, left: float, top: float, width: float, height: float) -> Box:
        left = min(max(left, 0), max(self._size[0] - width, 0))
        top = min(max(top, 0), max(self._size[1] - height, 0))
        return left, top, left + width, top + height


def _scale(width: int, height: int) -> float:
    """1 for a picture of 640 x 640 pixels."""
    return math.sqrt(width * height) / 640


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _in_ascii(text: str) -> str:
    """Pillow's own font has no more characters: accents go, what else is not there becomes "?"."""
    letters = "".join(
        c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)
    )
    return letters.encode("ascii", "replace").decode("ascii")


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has it in one size
        return ImageFont.load_default()
