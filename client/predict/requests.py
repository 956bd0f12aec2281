"""One request for a prediction, from the caller's arguments to what travels, for every transport.

The transports differ in how they carry a ``PredictRequest`` there and a ``Reply`` back; what is in
them is made and read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from d2serve.client.errors import MalformedReply
from d2serve.client.predict.image_input import ImageInput, encode_image
from d2serve.client.predict.options import (
    PictureOptions,
    PredictOptions,
    encode_options,
    encode_picture_options,
)
from d2serve.client.results.prediction import Prediction, parse_prediction

if TYPE_CHECKING:
    from typing_extensions import Unpack

_FILE_STARTS = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff"}


@dataclass(frozen=True)
class PredictRequest:
    """An image, the model that is asked about it, and how it is to be answered."""

    model: str
    version: str | None
    """Of the model; None is the server's default."""
    image: bytes = field(repr=False)
    """An image file."""
    options: Mapping[str, bytes]
    """By field name; empty where the server's defaults are wanted."""


@dataclass(frozen=True)
class Reply:
    """What a server answered to one request, when it is no error."""

    body: bytes = field(repr=False)
    request_id: str | None = None
    """From the headers of HTTP; gRPC has none."""

    def prediction(self) -> Prediction:
        return parse_prediction(self.body, request_id=self.request_id)

    def picture(self, picture_format: str) -> bytes:
        """The body itself, which must be an image file of this format.

        Raises:
            MalformedReply: it is anything else.
        """
        if self.body.startswith(_FILE_STARTS[picture_format]):
            return self.body
        raise MalformedReply(
            f"The reply is no {picture_format.upper()} file: it begins with {self.body[:40]!r}. Is "
            "the model behind this address a .mar made by d2serve, of a version that draws? Export "
            "it again with this one."
        )


def prediction_request(
    model: str,
    image: ImageInput,
    version: str | None,
    array_format: str,
    **options: Unpack[PredictOptions],
) -> PredictRequest:
    """The request for a Prediction. Reads the image's file, or encodes its pixels."""
    encoded = encode_options(**options)
    return PredictRequest(model, version, encode_image(image, array_format=array_format), encoded)


def picture_request(
    model: str,
    image: ImageInput,
    picture_format: str,
    version: str | None,
    array_format: str,
    **options: Unpack[PictureOptions],
) -> PredictRequest:
    """The request for a picture. Reads the image's file, or encodes its pixels."""
    encoded = encode_picture_options(picture_format, **options)
    return PredictRequest(model, version, encode_image(image, array_format=array_format), encoded)
