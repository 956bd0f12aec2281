"""From a classified request to what the model takes, so that all that can be wrong is found before.

A call of the Open Inference Protocol and any other request part only where their fields are read.
"""

from __future__ import annotations

from dataclasses import dataclass

from d2serve.handlers.errors import ImageTooLarge
from d2serve.handlers.oip.inputs import read_call
from d2serve.handlers.oip.outputs import chosen_outputs
from d2serve.handlers.outputs.selection import Selection
from d2serve.handlers.replies.fields import MASK_TENSOR, REPLY
from d2serve.handlers.requests.bands import viewable
from d2serve.handlers.requests.deadline import NAME as DEADLINE
from d2serve.handlers.requests.deadline import check_in_time, deadline_of
from d2serve.handlers.requests.fields import read_fields
from d2serve.handlers.requests.images import Pixels, read_pixels
from d2serve.handlers.requests.options import NONE, RequestOptions
from d2serve.handlers.requests.preprocessing import ModelInput, preprocess
from d2serve.handlers.requests.request import INFER, Call
from d2serve.handlers.spec.image_form import COLOUR
from d2serve.handlers.spec.limits import RequestLimits
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.timing import Seconds, Stopwatch


@dataclass(frozen=True)
class ModelRequest:
    """One request, on its way through the model and back."""

    image: ModelInput
    options: RequestOptions
    selection: Selection
    """What of the program's answer is wanted."""
    pixels: Pixels | None
    """(H, W, 3) RGB, of the image as it was sent, where it is to be drawn upon."""
    converted: str | None
    """What was done to the image's values, where they are not those that were sent."""
    outputs: tuple[str, ...]
    """Names of those that a call of the Open Inference Protocol gets; empty for any other."""
    deadline: float | None
    """In Unix seconds; None where none was said."""
    seconds: Seconds
    """That ``decode``, from the request as it came to pixels, and ``preprocess`` took."""


def read_request(call: Call, spec: ModelSpec) -> ModelRequest:
    """Read, check, decode and preprocess a request.

    Args:
        call: it is not one for the metadata.
        spec: the model's, with its limits.

    Raises:
        RequestError: it cannot be answered.
    """
    watch = Stopwatch()
    is_infer = call.kind == INFER
    fields = read_call(call, spec.image_form) if is_infer else read_fields(call)
    deadline = deadline_of(call, fields.options)
    check_in_time(deadline)
    wishes = {name: value for name, value in fields.options.items() if name != DEADLINE}
    options = RequestOptions.parse(wishes, spec)
    outputs = chosen_outputs(fields.outputs, options, spec) if is_infer else ()
    pixels, converted = read_pixels(fields.image, spec.limits, spec.image_form)
    _check_memory(pixels, options, spec)
    seconds = {"decode": watch.lap()}
    image = preprocess(pixels, spec)
    seconds["preprocess"] = watch.lap()
    return ModelRequest(
        image=image,
        options=options,
        selection=_selection(options, outputs, spec.limits),
        pixels=viewable(pixels) if options.draw else None,
        converted=converted,
        outputs=outputs,
        deadline=deadline,
        seconds=seconds,
    )


def _selection(
    options: RequestOptions, outputs: tuple[str, ...], limits: RequestLimits
) -> Selection:
    """What the options leave, and the outputs that a call names."""
    named = not outputs or MASK_TENSOR in outputs or REPLY.name in outputs
    return Selection(
        score_thresh=options.score_thresh,
        classes=options.classes,
        most=options.max_detections or limits.max_detections,
        masks=options.masks != NONE and named,
    )


def _check_memory(pixels: Pixels, options: RequestOptions, spec: ModelSpec) -> None:
    """Refuse an image of which the model's input, or the picture, would take too much memory.

    Raises:
        ImageTooLarge: it has more pixels than the limits say.
    """
    height, width, channels = pixels.shape
    if options.draw and height * width > spec.limits.max_drawn_pixels:
        raise ImageTooLarge(
            f"Got the option draw for an image of {width}x{height} pixels, expected at most "
            f"{spec.limits.max_drawn_pixels:,} pixels. Scale it down, or leave out draw and draw "
            "onto it what the reply says."
        )
    most = spec.limits.max_input_pixels * COLOUR.channels // max(channels, COLOUR.channels)
    if spec.min_size_test == 0 and height * width > most:
        raise ImageTooLarge(
            f"Got an image of {width}x{height} pixels, expected at most {most:,} pixels: this "
            "model takes images as they are and does not resize them. Scale it down."
        )
