"""Whether a version answers an image as its archive promises, before it answers anybody else."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from d2serve.client.errors import ClientError, InvalidInput, MalformedReply
from d2serve.client.predict.http_client import D2ServeClient
from d2serve.client.results.prediction import Prediction
from d2serve.handlers.spec.image_form import BANDS, MOST_OF_PILLOW
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.output_names import BOXES, PANOPTIC_SEG, PROPOSAL_BOXES, SEM_SEG

_HEIGHT, _WIDTH = 480, 640
_PARTS: dict[str, Callable[[Prediction], bool]] = {
    BOXES: lambda answer: answer.has_instances,
    PROPOSAL_BOXES: lambda answer: answer.proposals is not None,
    SEM_SEG: lambda answer: answer.sem_seg is not None,
    PANOPTIC_SEG: lambda answer: answer.panoptic_seg is not None,
}


class CheckFailed(ClientError):
    """The version answers an image with an error, or otherwise than its archive says."""


@dataclass(frozen=True)
class Sample:
    """The image that a version is asked about."""

    name: str
    """In messages."""
    image: bytes | NDArray[np.uint8]
    size: tuple[int, int] | None
    """Height and width in pixels, upright; None where nothing here reads it."""


def sample(given: Path | None, spec: ModelSpec | None) -> Sample:
    """The user's image, or one that is made here of the channels that the model takes.

    Raises:
        InvalidInput: the file cannot be read, or no image of so many channels can be made.
    """
    if given is not None:
        try:
            content = given.read_bytes()
        except OSError as error:
            raise InvalidInput(f"--image {given} cannot be read ({error.strerror}).") from error
        return Sample(str(given), content, _size_of(content))
    channels = 3 if spec is None else spec.channels
    if channels > MOST_OF_PILLOW:
        raise InvalidInput(
            f"The model takes images of {channels} channels, and none is made here of more than "
            f"{MOST_OF_PILLOW}: name one with --image."
        )
    return Sample("a made-up image", _pattern(channels), (_HEIGHT, _WIDTH))


def check(
    client: D2ServeClient,
    name: str,
    version: str,
    sample: Sample,
    spec: ModelSpec | None,
    times: int,
) -> int | None:
    """Ask a version about an image, so often at once that each of its workers gets one.

    Returns:
        How many instances it finds; None where it is asked for none.

    Raises:
        CheckFailed: an answer is an error, or not what the archive promises.
    """

    def ask(_: int) -> Prediction | None:
        try:
            return client.predict(name, sample.image, version=version, array_format=BANDS)
        except MalformedReply:
            if spec is not None:
                raise
            return None  # it answers, in words of its own

    try:
        with ThreadPoolExecutor(times) as pool:
            answers = list(pool.map(ask, range(times)))
    except ClientError as error:
        raise CheckFailed(
            f"Version {version} of {name} does not answer {sample.name}: {error}"
        ) from error
    for answer in answers:
        if answer is not None and spec is not None:
            _require_promised(answer, version, sample, spec)
    first = answers[0]
    return len(first.instances) if first is not None and first.has_instances else None


def _require_promised(answer: Prediction, version: str, sample: Sample, spec: ModelSpec) -> None:
    got: list[str] = []
    if answer.version != version:
        got.append(f"version {answer.version}")
    if sample.size is not None and (answer.height, answer.width) != sample.size:
        height, width = sample.size
        got.append(f"a size of {answer.height}x{answer.width} for an image of {height}x{width}")
    promised = {part: is_there for part, is_there in _PARTS.items() if part in spec.outputs}
    got += [f"no {part}" for part, is_there in promised.items() if not is_there(answer)]
    if got:
        raise CheckFailed(
            f"Version {version} of {spec.name} answers {sample.name} with {', '.join(got)}, which "
            "is not what its archive promises. Look at it with `d2serve verify`."
        )


def _size_of(content: bytes) -> tuple[int, int] | None:
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = ImageOps.exif_transpose(image).size
    except Exception:  # of a format, or channels, that the server may read all the same
        return None
    return height, width


def _pattern(channels: int) -> NDArray[np.uint8]:
    """Shapes on a gradient, (height, width, channels)."""
    across = np.linspace(0, 200, _WIDTH, dtype=np.float64)
    image = np.broadcast_to(across[None, :, None], (_HEIGHT, _WIDTH, channels)).astype(np.uint8)
    image = image.copy()
    for step in range(4):
        top, left = 40 + 90 * step, 60 + 130 * step
        image[top : top + 80, left : left + 80] = 255 - 50 * step
    return image
