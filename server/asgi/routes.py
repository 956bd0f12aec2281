"""What a path asks for: TorchServe's paths and those of the Open Inference Protocol."""

from __future__ import annotations

import re
from dataclasses import dataclass

from d2serve.server.asgi.refusals import no_such_path

PING, LIST, METADATA, PREDICT, INVOKE = "ping", "list", "metadata", "predict", "invoke"
OIP_SERVER, OIP_LIVE, OIP_READY, OIP_MODEL, OIP_MODEL_READY, OIP_INFER = (
    "oip_server",
    "oip_live",
    "oip_ready",
    "oip_model",
    "oip_model_ready",
    "oip_infer",
)
_READ, _ASK = ("GET", "HEAD"), ("POST",)
_MODEL = r"/(?P<model>[^/]+)"
_OIP_MODEL = rf"/v2/models{_MODEL}(?:/versions/(?P<version>[^/]+))?"
# SageMaker's adapter for Ray Serve asks at the root what was sent to /invocations.
_PATHS = {
    "/ping": (PING, _READ),
    "/models": (LIST, _READ),
    rf"/models{_MODEL}(?:/(?P<version>[^/]+))?": (METADATA, _READ),
    rf"/predictions{_MODEL}(?:/(?P<version>[^/]+))?": (PREDICT, (*_ASK, "PUT")),
    "/(?:invocations)?": (INVOKE, _ASK),
    "/v2/?": (OIP_SERVER, _READ),
    "/v2/health/live": (OIP_LIVE, _READ),
    "/v2/health/ready": (OIP_READY, _READ),
    _OIP_MODEL: (OIP_MODEL, _READ),
    rf"{_OIP_MODEL}/ready": (OIP_MODEL_READY, _READ),
    rf"{_OIP_MODEL}/infer": (OIP_INFER, _ASK),
}
_COMPILED = [(re.compile(pattern), *what) for pattern, what in _PATHS.items()]


@dataclass(frozen=True)
class Route:
    """What a path asks for."""

    what: str
    methods: tuple[str, ...]
    model: str | None = None
    version: str | None = None


def is_oip(path: str) -> bool:
    """Whether a path is one of the Open Inference Protocol, whether or not there is such a one."""
    return path == "/v2" or path.startswith("/v2/")


def route_of(path: str) -> Route:
    """What a path asks for.

    Args:
        path: without what a server puts before it, percent signs resolved.

    Raises:
        Refused: nothing that there is.
    """
    for pattern, what, methods in _COMPILED:
        found = pattern.fullmatch(path)
        if found is not None:
            return Route(what, methods, **found.groupdict())
    raise no_such_path(path)
