"""Refuses pixels that are not (H, W, 3) uint8, before numpy computes something else of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from d2serve.handlers.errors import InvalidImage


def check_images(images: Any) -> None:
    """Make sure that something is a sequence of images as the library takes them.

    Args:
        images: what the caller handed in.

    Raises:
        InvalidImage: one of them is not (H, W, 3) uint8 with at least one pixel.
    """
    if isinstance(images, np.ndarray) and images.ndim < 4:
        raise InvalidImage(
            f"got one array of shape {images.shape}, expected a list of images. Of a single image "
            "make a list: [image]."
        )
    for index, image in enumerate(images):
        check_pixels(image, f"image {index}")


def check_pixels(image: Any, name: str = "the image") -> None:
    """Make sure that something is an image as the library takes it.

    Args:
        image: what the caller handed in.
        name: what to call it.

    Raises:
        InvalidImage: it is not (H, W, 3) uint8 with at least one pixel.
    """
    if not isinstance(image, np.ndarray):
        raise InvalidImage(
            f"{name} is a {type(image).__module__}.{type(image).__qualname__}, expected a numpy "
            "array of shape (height, width, 3), uint8, in RGB order. Of a PIL image: "
            'np.asarray(image.convert("RGB")).'
        )
    shape, dtype = image.shape, image.dtype
    if len(shape) == 3 and shape[2] == 3 and dtype == np.uint8 and 0 not in shape:
        return
    raise InvalidImage(
        f"{name} has shape {shape} and dtype {dtype}, expected (height, width, 3) uint8 in RGB "
        f"order. {_advice(image)}"
    )


def _advice(image: np.ndarray[Any, Any]) -> str:
    shape = image.shape
    if 0 in shape:
        return "It has no pixels: look at where it was read or cut."
    if len(shape) == 4:
        return "It is a batch: give its images one by one, as a list."
    if len(shape) == 2:
        return "It has no channels: np.stack([image] * 3, axis=2) makes RGB of grey values."
    if len(shape) == 3 and shape[2] != 3 and shape[0] == 3:
        return "Its channels come first: image.transpose(1, 2, 0) puts them last."
    if len(shape) == 3 and shape[2] == 4:
        return "It has an alpha channel: leave it out, image[:, :, :3]."
    if len(shape) == 3 and shape[2] == 3 and image.dtype.kind == "f":
        return (
            "Scale it to 0 to 255 and convert it: (image * 255).round().astype(np.uint8) where its "
            "values are 0 to 1."
        )
    return "Read it as an RGB image of 8 bits a channel."
