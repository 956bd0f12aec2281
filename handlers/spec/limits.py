"""The most memory and time that a stranger's request may cost whoever serves it.

The defaults are what a public service would choose. They travel in the spec, and whoever serves an
archive may set others in its model-config.yaml::

    limits:
      max_image_pixels: 12000000
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from d2serve.handlers.errors import LoadError

SETTING = "limits"

# Pillow itself refuses what has more pixels than this.
_PILLOWS_LIMIT = 178_956_970


@dataclass(frozen=True)
class RequestLimits:
    """The most that one request may bring, cost or get."""

    max_image_bytes: int = 33_554_432
    """Bytes of the image file: 32 MB."""
    max_image_pixels: int = 50_000_000
    """Width times height, by the file's header: 150 MB once decoded; a phone's 48 megapixels."""
    max_frames: int = 1000
    """Pictures in the file, of which the first is answered."""
    max_decode_seconds: float = 5.0
    """From the file to its pixels."""
    max_input_pixels: int = 16_000_000
    """Width times height of what a model gets that does not resize images (MIN_SIZE_TEST 0): 192 MB
    of input. Where images are resized, the model's own sizes are the bound."""
    max_drawn_pixels: int = 16_000_000
    """Width times height of an image that is drawn upon: 9 bytes a pixel, 144 MB."""
    max_detections: int = 1000
    """Instances, and proposals, in the reply; the best ones are kept."""
    max_reply_bytes: int = 6_553_500
    """Of the whole answer. The default is TorchServe's max_response_size, which kills a worker that
    answers more (raise both together); other servers have no such limit, and hold an archive to
    this one only where it is another than the default."""

    def overridden(self, settings: object) -> RequestLimits:
        """These limits, but for those that the model's YAML sets.

        Args:
            settings: the value of ``limits`` there; None where it is absent.

        Raises:
            LoadError: a limit that does not exist, or a value that it cannot have.
        """
        if settings is None:
            return self
        if not isinstance(settings, Mapping):
            raise LoadError(
                f"{SETTING} in the model's YAML is {settings!a}, expected names and values, "
                f"such as `max_image_pixels: {self.max_image_pixels}`. Limits: {', '.join(NAMES)}."
            )
        problems = problems_of(settings)
        if problems:
            raise LoadError(
                f"{SETTING} in the model's YAML is wrong: {'; '.join(problems)}. Correct it, or "
                "leave it out for the archive's own."
            )
        return replace(self, **settings)


DEFAULT_LIMITS = RequestLimits()
NAMES = tuple(field.name for field in fields(RequestLimits))


def problems_of(limits: Mapping[Any, Any]) -> list[str]:
    """What is wrong with some limits, by name, if anything."""
    problems = []
    for name, value in limits.items():
        most = _PILLOWS_LIMIT if str(name).endswith("_pixels") else 2**31 - 1
        if name not in NAMES:
            problems.append(f"{name!a} is no limit, expected one of {', '.join(NAMES)}")
        elif name == "max_decode_seconds":
            if type(value) not in (int, float) or not 0 < value <= 3600:
                problems.append(f"{name} is {value!a}, expected seconds, above 0 to 3600")
        elif type(value) is not int or not 1 <= value <= most:
            problems.append(f"{name} is {value!a}, expected a whole number from 1 to {most}")
    return problems
