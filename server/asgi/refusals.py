"""What the application itself answers where a request does not get to a model."""

from __future__ import annotations

import logging

import orjson

from d2serve.handlers.errors import RequestError

_log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that the application answers with an error of its own.

    Codes are those of the proxy before a TorchServe (deploy/nginx.conf) where it says the same.
    """

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        """
        Args:
            status: as in HTTP.
            code: for programs.
            message: what was got, what was expected and what to do, for people.
            headers: further ones of the answer.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


class Disconnected(Exception):
    """The client has gone, and waits for no answer."""


class Overloaded(Exception):
    """Raised by whoever is asked: it has more to do than it takes, and nothing was begun."""


def error_body(code: str, message: str, request_id: str, is_oip: bool) -> bytes:
    """An error as the service writes it.

    Args:
        is_oip: whether the path is one of the Open Inference Protocol, whose error is a text.
    """
    if is_oip:
        return orjson.dumps({"error": f"{code}: {message}"})
    return orjson.dumps({"error": {"code": code, "message": message}, "request_id": request_id})


def no_such_path(path: str) -> Refused:
    return Refused(
        404,
        "not_found",
        f"There is nothing at {path[:100]!a}. Expected /predictions/NAME, /invocations, "
        "/v2/models/NAME/infer, /models or /ping.",
    )


def no_such_model(name: str, version: str | None, served: list[str]) -> Refused:
    """
    Args:
        served: names, or names and versions, of what there is.
    """
    asked = name if version is None else f"{name}/{version}"
    there = ", ".join(served[:20])
    return Refused(
        404, "model_not_found", f"There is no model {asked[:100]!a}. Expected one of: {there}."
    )


def method_not_allowed(method: str, allowed: tuple[str, ...]) -> Refused:
    expected = " or ".join(allowed)
    return Refused(
        405,
        "method_not_allowed",
        f"Got {method[:20]!a}, expected {expected} at this path.",
        allow=", ".join(allowed),
    )


def too_large(length: int | None, most: int) -> Refused:
    """
    Args:
        length: of the body, in bytes, where its sender said it.
        most: that is taken.
    """
    got = "more bytes than that" if length is None else f"{length:,} bytes"
    return Refused(
        413,
        "too_large",
        f"Got a body of {got}, expected at most {most:,}. Send the image as JPEG, or scale it "
        "down: the model resizes it anyway.",
        connection="close",
    )


def too_slow(seconds: float) -> Refused:
    return Refused(
        408,
        "too_slow",
        f"The body was not here within {seconds:g} s. Send a smaller image, or over a better "
        "connection.",
        connection="close",
    )


def too_late(seconds: float) -> Refused:
    return Refused(
        504,
        "deadline_exceeded",
        f"There was no answer within {max(0.0, seconds):.1f} s, so it is waited for no longer. The "
        "server has more to do than it can in that time: send less at once, wait longer or add "
        "replicas.",
    )


def overloaded() -> Refused:
    return Refused(
        503,
        "overloaded",
        "The server has more to do than it takes, and has begun nothing of this. Ask again later, "
        "send less at once, or add replicas.",
        **{"retry-after": "1"},
    )


def refusal_of(error: Exception, request_id: str) -> Refused:
    """What a client is told of an error that answering its request has raised.

    What nobody foresaw goes into the log, and the client gets no more of it than its name.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, Overloaded):
        return overloaded()
    if isinstance(error, RequestError):
        return Refused(error.status, error.code, str(error))
    _log.error("d2serve: answering %s failed", request_id, exc_info=error)
    told = f"The server failed on this request ({type(error).__name__})."
    return Refused(500, "server_failed", told)
