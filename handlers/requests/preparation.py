"""Why: all of a request that can be wrong is found wrong before the model is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d2serve.handlers.oip.outputs import chosen_outputs
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.fields import read_fields
from d2serve.handlers.requests.options import RequestOptions
from d2serve.handlers.requests.preprocessing import PreparedImage, preprocess
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.timing import Seconds, Stopwatch


@dataclass(frozen=True)
class PreparedRequest:
    """One request, on its way through the model and back."""

    image: PreparedImage
    options: RequestOptions
    pixels: npt.NDArray[np.uint8] | None
    """(H, W, 3) RGB, of the image as it was sent, where it is to be drawn upon."""
    outputs: tuple[str, ...]
    """Names of those that a call of the Open Inference Protocol gets."""
    seconds: Seconds
    """That ``decode``, from the request as it came to pixels, and ``preprocess`` took."""


def prepare(request: Any, headers: Mapping[str, Any], spec: ModelSpec) -> PreparedRequest:
    """Read, check and decode a request.

    Args:
        request: a mapping: bytes, text or parsed JSON by field name.
        headers: of HTTP.
        spec: the model's, with its limits.

    Raises:
        RequestError: it cannot be answered.
    """
    watch = Stopwatch()
    fields = read_fields(request, headers, spec.limits)
    options = RequestOptions.parse(fields.options, spec)
    outputs = chosen_outputs(fields.outputs, options, spec)
    sent = fields.image
    pixels = decode(sent, spec.limits) if isinstance(sent, bytes) else sent
    seconds = {"decode": watch.lap()}
    image = preprocess(pixels, spec)
    seconds["preprocess"] = watch.lap()
    return PreparedRequest(image, options, pixels if options.draw else None, outputs, seconds)
