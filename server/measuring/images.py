"""The images that are answered: the user's, or a drawn one of the model's own input size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2serve.handlers.requests.preprocessing import resized_shape
from d2serve.handlers.spec.image_form import GREY, ImageForm
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.server.images.sources import ImagesUnreadable, find_images
from d2serve.server.measuring.drawn_photo import jpeg, photo
from d2serve.server.measuring.plan import MeasureError

MOST_IMAGES = 12
"""Of a folder; they are taken evenly from all of it."""
_UNRESIZED = (480, 640)


@dataclass(frozen=True)
class Images:
    """What every worker answers, in turn."""

    files: tuple[Path, ...]
    names: tuple[str, ...]
    """As the user knows them."""
    described: str
    """In a few words."""
    drawn: bool
    """Whether it is no image of the user's."""


def images_of(where: str, folder: Path) -> Images:
    """Copy some of the user's images into a folder.

    Args:
        where: see ``find_images``.
        folder: for the copies.

    Raises:
        MeasureError: there are none.
    """
    try:
        found = list(find_images(where))
        places = np.linspace(0, len(found) - 1, min(MOST_IMAGES, len(found))).round().astype(int)
        taken = [found[i] for i in places]
        files = []
        for i, image in enumerate(taken):
            file = folder / f"{i}.image"
            file.write_bytes(image.read())
            files.append(file)
    except (ImagesUnreadable, OSError) as error:
        raise MeasureError(str(error)) from error
    described = f"{len(taken)} of the {len(found)} images of {where}"
    return Images(tuple(files), tuple(each.name for each in taken), described, False)


def drawn_image(specs: Sequence[ModelSpec], folder: Path) -> Images:
    """Draw an image of the size to which the first model resizes, into a folder.

    Raises:
        MeasureError: the models take images of different forms.
    """
    form = form_of(specs)
    height, width = _UNRESIZED
    if specs[0].min_size_test:
        sizes = specs[0].min_size_test, specs[0].max_size_test
        height, width = resized_shape(height, width, *sizes)
    pixels = photo(height, width, seed=0)
    if form.channels == 3 or form.image_format == GREY:
        file = folder / "drawn.jpg"
        file.write_bytes(jpeg(pixels))
    else:  # bands, which go in as pixels
        file = folder / "drawn.npy"
        np.save(file, pixels[:, :, np.arange(form.channels) % 3])
    described = f"one drawn picture, {width} x {height}"
    return Images((file,), (described,), described, True)


def form_of(specs: Sequence[ModelSpec]) -> ImageForm:
    """The form of the images that all models take.

    Raises:
        MeasureError: they take different ones.
    """
    forms = {spec.image_form.channels: spec.image_form for spec in specs}
    if len(forms) > 1:
        kinds = " and ".join(form.described for form in forms.values())
        raise MeasureError(
            f"The archives take images of {kinds}, so the same images cannot be given to all of "
            "them. Measure them one by one."
        )
    return specs[0].image_form
