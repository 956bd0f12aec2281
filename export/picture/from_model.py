"""The network of an eager model, seen while it answers an image."""

from __future__ import annotations

from torch import Tensor, nn

from d2serve.export.picture.condensing import network_of
from d2serve.export.picture.network import Network
from d2serve.export.picture.readers.recording import Given, recorded, timed

# How much of the image's height and width a second one has, which tells the sides that vary.
_HEIGHT_LEFT, _WIDTH_LEFT = (5, 8), (3, 4)


def from_model(
    model: nn.Module, given: Given, title: str, about: str, *, with_time: bool = False
) -> Network:
    """The network of a model, with the shapes and multiply-adds that an image gives it.

    Args:
        model: eager, in evaluation mode.
        given: the dict of an image, as DefaultPredictor gives it to the model.
        title: what the picture is called.
        about: said below it.
        with_time: measure the time of the parts as well, in one more answer.
    """
    flow = recorded(model, given, _smaller(given))
    if with_time:
        flow.seconds = timed(model, given)
    return network_of(flow, title, about)


def _smaller(given: Given) -> Given:
    def cut(value: object) -> object:
        if not isinstance(value, Tensor) or value.ndim != 3:
            return value
        height, width = value.shape[1:]
        rows = height * _HEIGHT_LEFT[0] // _HEIGHT_LEFT[1]
        columns = width * _WIDTH_LEFT[0] // _WIDTH_LEFT[1]
        return value[:, :rows, :columns].contiguous()

    return {name: cut(value) for name, value in given.items()}
