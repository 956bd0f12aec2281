"""The errors of this library, by whom they concern.

A client's mistake becomes that client's own 4xx, never an exception for the whole batch.

::

    ServingError
    ├── RequestError            carries an HTTP status and a code, ends one request only
    │   ├── EmptyRequest            400 empty_request
    │   ├── InvalidImage            400 invalid_image
    │   ├── InvalidOption           400 invalid_option
    │   ├── UnsupportedImageFormat  415 unsupported_image_format
    │   ├── ImageTooLarge           413 image_too_large
    │   ├── ImageTooSlow            413 image_too_slow
    │   ├── ReplyTooLarge           413 reply_too_large
    │   ├── DeadlineExceeded        504 deadline_exceeded
    │   └── ModelFailed             500 model_failed
    └── LoadError               the archive cannot be served; ends the load
        ├── SpecError               model_spec.json is missing, damaged or too new
        └── ArchiveRefused          the .mar is no archive, damaged, harmful or not for here
"""

from __future__ import annotations

from typing import ClassVar


class ServingError(Exception):
    """Everything this library raises on purpose."""


class RequestError(ServingError):
    """One request cannot be answered; its neighbours in the batch can.

    The message says what was got, what was expected and what to do; it goes to the client.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "invalid_request"

    def drop_frames(self) -> None:
        """Forget where it was raised, once that is of no use any more.

        An error that a frame holds while its traceback holds the frame is garbage that only a full
        collection finds, which comes rarely: until then the request's image stays in memory.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None


class EmptyRequest(RequestError):
    """No image bytes arrived."""

    code = "empty_request"


class InvalidImage(RequestError):
    """The bytes claim to be an image and cannot be decoded."""

    code = "invalid_image"


class InvalidOption(RequestError):
    """What was asked for beside the image cannot be had."""

    code = "invalid_option"


class UnsupportedImageFormat(RequestError):
    """The bytes are of no image format that is served."""

    status = 415
    code = "unsupported_image_format"


class ImageTooLarge(RequestError):
    """It has more bytes, pixels or frames than are served, or than can be drawn upon."""

    status = 413
    code = "image_too_large"


class ImageTooSlow(RequestError):
    """Decoding takes, or would take, longer than one request may."""

    status = 413
    code = "image_too_slow"


class ReplyTooLarge(RequestError):
    """The answer is larger than the server can send."""

    status = 413
    code = "reply_too_large"


class DeadlineExceeded(RequestError):
    """Nobody waits for the answer any more, so it is not computed."""

    status = 504
    code = "deadline_exceeded"


class ModelFailed(RequestError):
    """The program failed on this image, which is not the client's fault."""

    status = 500
    code = "model_failed"


class LoadError(ServingError):
    """The model cannot be loaded from this archive on this machine."""


class SpecError(LoadError):
    """model_spec.json is missing, is not what its schema says, or is of a newer schema."""


class ArchiveRefused(LoadError):
    """A .mar is no archive, is damaged, was made to harm, or is not for this machine."""
