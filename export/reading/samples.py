"""The sample image, and the images made of it on which a program is compared with detectron2.

Tracing needs an image with detections. A comparison needs several sizes and counts: smaller and
larger images, portrait, panorama, and ones with no detection, exactly one and many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from d2serve.export.errors import SampleError
from d2serve.export.reading.image_files import (
    Pixels,
    read_image_file,
    reduced,
    scaled,
    servable,
)
from d2serve.handlers.errors import RequestError
from d2serve.handlers.requests.bands import bands_of
from d2serve.handlers.spec.image_form import BANDS, COLOUR, GREY, ImageForm
from d2serve.handlers.spec.limits import DEFAULT_LIMITS

_GREY_FORM = ImageForm(GREY, 1)
_MOST_PIXELS = 12_500_000  # what most phones' photos have
_MOST_UNRESIZED = 2_100_000  # 1024 x 2048, as street scenes are labelled without resizing
_MOST_BASE = 2_100_000  # beyond what models resize images to
_MOST_ASPECT = 8
# What is asked of a user's own file is not what is asked of a stranger's: Pillow's limit, an hour.
_ANY_PHOTO = replace(
    DEFAULT_LIMITS, max_image_pixels=178_956_970, max_decode_seconds=3600, max_frames=2**31 - 1
)
_GREY = 128
_GREY_MARGINS = (320, 640)  # pixels
_CROPS_TRIED = 2
_FADES_TRIED = 6


def most_sample_pixels(min_size_test: int) -> int:
    """How large a sample may be, so that an export takes neither hours nor all memory.

    Args:
        min_size_test: the config's; 0 gives the model images as they are.
    """
    return _MOST_UNRESIZED if min_size_test == 0 else _MOST_PIXELS


def load_sample(
    path: Path | None, form: ImageForm = COLOUR, most_pixels: int = _MOST_PIXELS
) -> Pixels:
    """The user's sample image, or the built-in one.

    Args:
        path: of any photo or array, see ``read_image_file``; None is the built-in image.
        form: of the images that the model takes.
        most_pixels: what has more is reduced to them.

    Raises:
        SampleError: the file is no image that can be read.
    """
    if path is None:
        return builtin_sample(form)
    try:
        pixels = read_image_file(path, form, _ANY_PHOTO)
    except (OSError, RequestError) as error:
        arrays = (
            f" A .npy file of {form.shape} uint8 is read as well."
            if form.channels != COLOUR.channels
            else ""
        )
        raise SampleError(f"--sample-image {path} cannot be read: {error}{arrays}") from error
    return servable(reduced(pixels, most_pixels))


def builtin_sample(form: ImageForm = COLOUR) -> Pixels:
    """A drawn scene of 480 x 640: coloured shapes, some hidden by others, on a rough ground.

    Of other bands the first are its red, green and blue, then comes its grey, then they come again.
    """
    scene = _scene()
    if form.image_format == BANDS:
        bands = np.dstack([scene, bands_of(Image.fromarray(scene), _GREY_FORM)])
        return np.ascontiguousarray(bands[:, :, np.arange(form.channels) % bands.shape[2]])
    return bands_of(Image.fromarray(scene), form)


def _scene() -> Pixels:
    random = np.random.default_rng(7)
    coarse = random.integers(60, 190, (8, 10, 3), dtype=np.uint8)
    ground = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(ground)
    colours = [(214, 69, 65), (52, 100, 219), (60, 180, 60)]
    for index in range(15):
        x = 70 + (index % 5) * 125 + int(random.integers(-20, 20))
        y = 80 + (index // 5) * 150 + int(random.integers(-20, 20))
        radius = int(random.integers(34, 70))
        colour = tuple(int(c * random.uniform(0.7, 1)) for c in colours[index % 3])
        turn = float(random.uniform(0, 360))
        if index % 3 == 0:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        else:
            draw.regular_polygon((x, y, radius), 3 + index % 3 // 2, turn, fill=colour)
    soft = np.asarray(ground.filter(ImageFilter.GaussianBlur(0.8)), dtype=np.int16)
    grain = random.normal(0, 6, soft.shape)
    return np.clip(soft + grain, 0, 255).astype(np.uint8)


def sized_variants(sample: Pixels) -> dict[str, Pixels]:
    """The sample at other resolutions and aspect ratios."""
    base = base_of(sample)
    height, width = base.shape[:2]
    return {
        "sample": sample,
        "half": scaled(base, height // 2, width // 2),
        "larger": scaled(base, int(height * 1.3), int(width * 1.3)),
        "turned": np.ascontiguousarray(np.rot90(base)),
        # Not mirrored: at such a seam both sides are alike, and rounding decides between them.
        "panorama": np.ascontiguousarray(np.concatenate([base, base], axis=1)),
        "tower": np.ascontiguousarray(np.concatenate([base, base], axis=0)),
        "tiles": np.ascontiguousarray(np.tile(scaled(base, height // 2, width // 2), (2, 2, 1))),
        "squeezed": scaled(base, height, max(width // 3, 1)),
        "icon": scaled(base, 57, 41),
    }


def telling_variants(sample: Pixels) -> list[Pixels]:
    """A smaller sample of another shape, and plain grey, in which most models find nothing.

    What a model answers, by name and shape, can be told from them beside the sample.
    """
    height, width = sample.shape[:2]
    small = scaled(sample, height // 2, max(width // 3, 1))
    return [small, np.full((160, 240, sample.shape[2]), _GREY, np.uint8)]


def base_of(sample: Pixels) -> Pixels:
    """The sample as its variants are made of it.

    Twice its size is within every limit, and nothing of a large photo is enlarged. Of a strip, the
    middle: detectron2 resizes what is twice as long to no pixel at all.
    """
    height, width = sample.shape[:2]
    across, down = min(width, height * _MOST_ASPECT), min(height, width * _MOST_ASPECT)
    top, left = (height - down) // 2, (width - across) // 2
    return reduced(sample[top : top + down, left : left + across], _MOST_BASE)


def without_detection(channels: int, count: Callable[[Pixels], int]) -> Pixels | None:
    """An image in which the model finds nothing, or None where each plain one has something."""
    for value in (_GREY, 0, 255):
        image = np.full((333, 501, channels), value, np.uint8)
        if count(image) == 0:
            return image
    return None


def with_one_detection(
    sample: Pixels, boxes: npt.NDArray[np.float32], count: Callable[[Pixels], int]
) -> Pixels | None:
    """A piece of the sample in which the model finds exactly one instance, or None.

    A crop is put into the middle of grey, where the model finds nothing, and faded until a single
    instance is left.

    Args:
        sample: the sample image.
        boxes: (N, 4) XYXY_ABS or (N, 5) XYWHA_ABS of what the model finds in it, best first.
        count: how many instances the model finds in an image; 0 in a grey one.
    """
    for margin in _GREY_MARGINS:
        for box in boxes[:_CROPS_TRIED]:
            scene = _crop_in_grey(sample, box, margin).astype(np.float32)
            weak, strong = 0.0, 1.0
            strength = strong
            for _step in range(_FADES_TRIED):
                faded = (_GREY + (scene - _GREY) * strength).astype(np.uint8)
                found = count(faded)
                if found == 1:
                    return faded
                if found == 0:
                    weak = strength
                else:
                    strong = strength
                strength = (weak + strong) / 2
    return None


def _crop_in_grey(sample: Pixels, box: npt.NDArray[np.float32], margin: int) -> Pixels:
    if len(box) == 5:  # centre, size and angle: the square around it
        reach = np.hypot(box[2], box[3]) / 2
        box = np.concatenate([box[:2] - reach, box[:2] + reach])
    x0, y0 = (max(int(edge) - 8, 0) for edge in box[:2])
    x1, y1 = (int(edge) + 8 for edge in box[2:])
    around = ((margin, margin), (margin, margin), (0, 0))
    return np.pad(sample[y0:y1, x0:x1], around, constant_values=_GREY)
