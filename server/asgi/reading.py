"""Makes the service's request of one of HTTP."""

from __future__ import annotations

from typing import Any

from d2serve.handlers.requests.bodies.content_encoding import encoding_of, unpacked
from d2serve.handlers.requests.bodies.content_types import MULTIPART, content_type
from d2serve.handlers.requests.fields import add_option
from d2serve.handlers.requests.request import HTTP, INFER, Request
from d2serve.handlers.spec.limits import DEFAULT_LIMITS
from d2serve.server.asgi.forms import read_form
from d2serve.server.asgi.heads import Head

MODEL_NAME = "model_name"
"""By which /invocations is told which model is meant, and which is no option of any."""

_IMAGES = ("data", "body")
"""The fields of a form that may be the image."""


def is_form(head: Head) -> bool:
    """Whether the body has to be taken apart."""
    return content_type(head.headers) == MULTIPART


def read_request(head: Head, body: bytes, deadline: float, is_infer: bool) -> Request:
    """The request in the service's words.

    Args:
        deadline: until when it is answered, in Unix seconds.
        is_infer: whether the path is that of a call of the Open Inference Protocol.

    Raises:
        RequestError: an option came twice, or the body cannot be unpacked.
        Refused: the form is none.
    """
    options, headers, image = head.options(), dict(head.headers), None
    form = None
    if is_form(head):
        encoding = encoding_of(headers)
        if encoding:
            body = unpacked(body, encoding, DEFAULT_LIMITS)
            del headers["content-encoding"]
        form = read_form(body, headers["content-type"])
    if form is None:
        image = body or None
    else:
        fields: dict[str, Any] = {}
        for name, value in form:
            add_option(fields, name, value)
        image = fields.pop(next((name for name in _IMAGES if name in fields), ""), None)
        for name, value in fields.items():
            add_option(options, name, value)
    kind = INFER if is_infer else None
    return Request(image, options, headers, kind, HTTP, head.request_id, deadline)
