"""The 3x3 convolutions of stride 1 of Mask R-CNN R50-FPN, for an image of 800x1066."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A convolution, and how often the model runs it for an image."""

    part: str
    times: int
    images: int
    ins: int
    outs: int
    height: int
    width: int
    relu: bool

    @property
    def multiplications(self) -> int:
        """Of the direct sum, for all its runs."""
        return self.times * self.images * self.height * self.width * self.ins * self.outs * 9


def _pyramid(part: str, relu: bool, sizes: tuple[tuple[int, int], ...]) -> tuple[Layer, ...]:
    return tuple(Layer(part, 1, 1, 256, 256, height, width, relu) for height, width in sizes)


_LEVELS = ((200, 267), (100, 134), (50, 67), (25, 34))

LAYERS = (
    Layer("res2", 3, 1, 64, 64, 200, 267, True),
    # In each later stage a 1x1 convolution has the stride: MODEL.RESNETS.STRIDE_IN_1X1.
    Layer("res3", 4, 1, 128, 128, 100, 134, True),
    Layer("res4", 6, 1, 256, 256, 50, 67, True),
    Layer("res5", 3, 1, 512, 512, 25, 34, True),
    *_pyramid("FPN", False, _LEVELS),
    *_pyramid("RPN", True, (*_LEVELS, (13, 17))),
    Layer("mask head", 4, 100, 256, 256, 14, 14, True),
)
