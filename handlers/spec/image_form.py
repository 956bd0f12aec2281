"""What images a model takes: how many channels, and what they mean.

A program takes what ``cfg.MODEL.PIXEL_MEAN`` and ``cfg.INPUT.FORMAT`` say. Most take three colours;
some take grey, a fourth band of depth or infrared, or many bands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from d2serve.handlers.spec.sixteen_bit import OPENCV, SIXTEEN_BIT_WAYS

BGR, RGB, GREY, RGBA = "BGR", "RGB", "L", "RGBA"
"""As ``detectron2.data.detection_utils.read_image`` names them."""
BANDS = "bands"
"""Any other number of channels, which are the image's own bands, as they are and in their order."""

FORMATS: Mapping[str, int | None] = {BGR: 3, RGB: 3, GREY: 1, RGBA: 4, BANDS: None}
"""What a spec's ``image_format`` may be, and the number of channels that goes with it."""

MOST_OF_PILLOW = 4
"""Channels of a picture or array that Pillow takes, and bands of a file that it decodes."""

_IN_WORDS = {
    BGR: "in RGB order",
    RGB: "in RGB order",
    GREY: "grey",
    RGBA: "in RGBA order",
    BANDS: "bands in the model's order",
}


@dataclass(frozen=True)
class ImageForm:
    """The form in which a model's images are handled before they go into its program.

    Pixels of colours are in RGB order until then, also for a model that takes BGR.
    """

    image_format: str
    """One of ``FORMATS``."""
    channels: int
    sixteen_bit: str = OPENCV
    """How samples of 16 bits become 8, one of ``SIXTEEN_BIT_WAYS``."""

    @property
    def shape(self) -> str:
        """That of its pixels, as messages have it."""
        return f"(height, width, {self.channels})"

    @property
    def order(self) -> str:
        """What its channels are, in words."""
        return _IN_WORDS[self.image_format]

    @property
    def described(self) -> str:
        """In a few words."""
        return f"{self.channels} {'channel' if self.channels == 1 else 'channels'} ({self.order})"

    def problems(self) -> list[str]:
        """What is wrong with it, if anything."""
        if self.sixteen_bit not in SIXTEEN_BIT_WAYS:
            return [f"sixteen_bit is {self.sixteen_bit!r}, expected one of {SIXTEEN_BIT_WAYS}"]
        if self.image_format not in FORMATS:
            return [f"image_format is {self.image_format!r}, expected one of {tuple(FORMATS)}"]
        expected = FORMATS[self.image_format]
        if self.channels < 1 or expected not in (None, self.channels):
            least = "1 or more" if expected is None else expected
            return [f"channels is {self.channels}, expected {least} for {self.image_format!r}"]
        return []


COLOUR = ImageForm(RGB, 3)
"""What nearly every model takes."""
