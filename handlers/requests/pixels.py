"""Refuses pixels that are not those of the model, before numpy computes something else of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from d2serve.handlers.errors import InvalidImage
from d2serve.handlers.spec.image_form import COLOUR, ImageForm


def check_pixels(image: Any, form: ImageForm = COLOUR, name: str = "the image") -> None:
    """Make sure that something is an image as the library takes it.

    Args:
        image: what the caller handed in.
        form: of the images that the model takes.
        name: what to call it.

    Raises:
        InvalidImage: it is not (H, W, channels) uint8 with at least one pixel.
    """
    expected = f"{form.shape} uint8 {form.order}"
    if not isinstance(image, np.ndarray):
        raise InvalidImage(
            f"{name} is a {type(image).__module__}.{type(image).__qualname__}, expected a numpy "
            f"array of shape {expected}, a PIL image, a path or the bytes of an image file."
        )
    shape, dtype = image.shape, image.dtype
    if len(shape) == 3 and shape[2] == form.channels and dtype == np.uint8 and 0 not in shape:
        return
    raise InvalidImage(
        f"{name} has shape {shape} and dtype {dtype}, expected {expected}. {_advice(image, form)}"
    )


def _advice(image: np.ndarray[Any, Any], form: ImageForm) -> str:
    shape, channels = image.shape, form.channels
    if 0 in shape:
        return "It has no pixels: look at where it was read or cut."
    if len(shape) == 4:
        return "It is a batch: give its images one by one, as a list."
    if len(shape) == 2 and channels == COLOUR.channels:
        return "It has no channels: np.stack([image] * 3, axis=2) makes RGB of grey values."
    if len(shape) == 2 and channels == 1:
        return "It has no channels: image[:, :, None] gives it one."
    if len(shape) == 3 and shape[2] != channels and shape[0] == channels:
        return "Its channels come first: image.transpose(1, 2, 0) puts them last."
    if len(shape) == 3 and shape[2] == 4 and channels == COLOUR.channels:
        return "It has an alpha channel: leave it out, image[:, :, :3]."
    if len(shape) == 3 and shape[2] == channels and image.dtype.kind == "f":
        return (
            "Scale it to 0 to 255 and convert it: (image * 255).round().astype(np.uint8) where its "
            "values are 0 to 1."
        )
    if channels == COLOUR.channels:
        return "Read it as an RGB image of 8 bits a channel."
    return f"This model takes {form.described} of 8 bits."
