"""Predicting with calls that wait for the answer: all but the transport, which is HTTP or gRPC.

AsyncD2ServeClient has the same methods for asyncio.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeVar

from d2serve.client.connection.asking import Headers, ask
from d2serve.client.connection.client import Client
from d2serve.client.predict.image_input import ImageInput
from d2serve.client.predict.options import PictureOptions, PredictOptions
from d2serve.client.predict.requests import (
    PredictRequest,
    Reply,
    picture_request,
    prediction_request,
)
from d2serve.client.results.prediction import Prediction

if TYPE_CHECKING:
    from typing_extensions import Unpack

Self = TypeVar("Self", bound="BlockingClient")


class BlockingClient(Client, ABC):
    """Sends images to a server and returns typed answers. May be used from several threads."""

    def predict(
        self,
        model: str,
        image: ImageInput,
        *,
        version: str | None = None,
        array_format: str = "BGR",
        **options: Unpack[PredictOptions],
    ) -> Prediction:
        """Detect objects in one image.

        Args:
            model: the name that it is served under.
            image: a path, encoded bytes, a PIL image or a uint8 array (height, width, channels).
            version: of the model; None is the server's default.
            array_format: "BGR", "RGB" or, as they are, "bands": of an array.
            **options: how it is to be answered, see ``PredictOptions``: score_thresh,
                max_detections, classes, masks, sem_seg, extra.

        Raises:
            InvalidInput: nothing was sent, for what no model could be asked for.
            RequestRejected: its subclasses say why; InvalidOption where this model has no such.
            ModelFailed, ServerFailed, ServerOverloaded, ServerUnavailable, AuthorizationError,
            ModelNotFound, MalformedReply.
        """
        request = prediction_request(model, image, version, array_format, **options)
        return self._ask(request).prediction()

    def predict_picture(
        self,
        model: str,
        image: ImageInput,
        *,
        format: str = "png",
        version: str | None = None,
        array_format: str = "BGR",
        **options: Unpack[PictureOptions],
    ) -> bytes:
        """The image with what ``predict`` would find drawn onto it by the server, as the bytes of
        an image file, "png" or "jpeg": write them to a file, or open them with Pillow.

        With ``masks="none"`` boxes alone are drawn, and of a panoptic model its map. The other
        arguments and the errors are those of ``predict``.
        """
        request = picture_request(model, image, format, version, array_format, **options)
        return self._ask(request).picture(format)

    @abstractmethod
    def ping(self) -> str:
        """TorchServe's word about itself, e.g. "Healthy". It says so while workers crash, too:
        for readiness use ManagementClient.wait_ready."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections; the client cannot be used after it."""

    @abstractmethod
    def _send(self, request: PredictRequest, headers: Headers, deadline: str | None) -> Reply:
        """One attempt: ask the server, and raise what it says if that is an error."""

    def _ask(self, request: PredictRequest) -> Reply:
        deadlines = self._connection.deadlines
        return ask(
            self._connection,
            lambda headers: deadlines.call(lambda by: self._send(request, headers, by)),
        )

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
