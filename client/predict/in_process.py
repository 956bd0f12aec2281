"""Predict with an archive in this process, without a server: the same arguments and answers.

with InProcessClient("shapes.mar") as client:
    prediction = client.predict("photo.jpg", score_thresh=0.5)

A file's bytes go the way that they go in a server, so the answer has the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from d2serve.client.errors import BY_CODE, ArchiveRefused, ClientError, RequestRejected
from d2serve.client.own_handling import Handling, own_handling
from d2serve.client.predict.image_input import ImageInput, encode_image
from d2serve.client.predict.options import (
    PictureOptions,
    PredictOptions,
    encode_options,
    encode_picture_options,
)
from d2serve.client.results.prediction import Prediction, parse_prediction
from d2serve.handlers.errors import LoadError
from d2serve.handlers.replies.reply import OK, Reply
from d2serve.handlers.requests.request import PREDICT, Request
from d2serve.handlers.service import Service
from d2serve.handlers.spec.image_form import BGR, COLOUR, RGB
from d2serve.handlers.spec.model_spec import ModelSpec

if TYPE_CHECKING:
    from typing_extensions import Unpack

Body = Union[bytes, NDArray[np.uint8]]
"""An image file, or (height, width, 3) pixels in RGB order."""


class LoadSettings(Handling, total=False):
    """How an archive is loaded, see ``Detector.open``; each may be left out."""

    device: str
    threads: int | None


class InProcessClient:
    """A model of an archive, which answers images. May be used from several threads."""

    def __init__(self, archive: str | os.PathLike[str], **settings: Unpack[LoadSettings]) -> None:
        """
        Args:
            archive: a .mar, or the folder that one was extracted to.
            **settings: those of ``Detector.open``; batching and limits that are not given are those
                of the archive's own model-config.yaml, as on a server.

        Raises:
            ArchiveRefused: it cannot be loaded here; the message says why.
        """
        try:
            own: LoadSettings = {**own_handling(archive), **settings}
            self._service = Service.open(archive, **own)
        except LoadError as error:
            raise ArchiveRefused(str(error)) from error

    @property
    def spec(self) -> ModelSpec:
        """What the archive says of its model."""
        return self._service.spec

    def predict(
        self,
        image: ImageInput,
        *,
        array_format: str = "BGR",
        **options: Unpack[PredictOptions],
    ) -> Prediction:
        """Detect objects in one image: as ``D2ServeClient.predict``, for the model of this archive.

        Raises:
            InvalidInput: what no model could be asked for.
            RequestRejected: its subclasses say why.
            ModelFailed: the program failed on this image.
        """
        encoded = encode_options(**options)
        reply = self._asked(self._body(image, array_format), encoded)
        return parse_prediction(reply.body)

    def predict_picture(
        self,
        image: ImageInput,
        *,
        format: str = "png",
        array_format: str = "BGR",
        **options: Unpack[PictureOptions],
    ) -> bytes:
        """As ``D2ServeClient.predict_picture``, with the arguments and errors of ``predict``."""
        encoded = encode_picture_options(format, **options)
        return self._asked(self._body(image, array_format), encoded).body

    def reply(self, image: Body, options: Mapping[str, Any] | None = None) -> Reply:
        """The reply to an image, as a server gives it: its body is JSON, of an error as well.

        Args:
            image: an image file, or pixels.
            options: of the request, by name, as text or as Python values.
        """
        return self._service.reply(Request(body=image, fields=options or {}, kind=PREDICT))

    def close(self) -> None:
        """Remove what was unpacked; the client cannot be used after it."""
        self._service.close()

    def __enter__(self) -> InProcessClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _asked(self, image: Body, options: Mapping[str, Any]) -> Reply:
        reply = self.reply(image, options)
        if reply.code != OK:
            raise _error(reply)
        return reply

    def _body(self, image: ImageInput, array_format: str) -> Body:
        """The bytes of a file; colours of an array as they are, since nothing has to travel."""
        if (
            isinstance(image, np.ndarray)
            and image.dtype == np.uint8
            and image.ndim == COLOUR.channels == image.shape[2]
            and self.spec.channels == COLOUR.channels
            and array_format in (BGR, RGB)
        ):
            return np.ascontiguousarray(image[:, :, ::-1] if array_format == BGR else image)
        return encode_image(image, array_format=array_format)


def _error(reply: Reply) -> ClientError:
    kind = BY_CODE.get(reply.code, RequestRejected)
    return kind(reply.message, code=reply.code, status=reply.status, where=reply.code)
