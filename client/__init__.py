"""Talk to a TorchServe that serves d2serve's archives: predict, manage, start, draw.

The names below are the public ones; each is imported when it is first used, so that predicting
over HTTP loads neither gRPC nor what starts servers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2serve.client.drawing import draw
    from d2serve.client.errors import ClientError
    from d2serve.client.grpc_client import D2ServeGrpcClient
    from d2serve.client.http_client import AsyncD2ServeClient, D2ServeClient
    from d2serve.client.management import ManagementClient
    from d2serve.client.responses import (
        Instance,
        PanopticSeg,
        PanopticSegment,
        Prediction,
        Proposal,
        SemSeg,
        SemSegClass,
        parse_prediction,
    )
    from d2serve.client.retrying import Retry
    from d2serve.client.server import TorchServeProcess

__all__ = [
    "AsyncD2ServeClient",
    "ClientError",
    "D2ServeClient",
    "D2ServeGrpcClient",
    "Instance",
    "ManagementClient",
    "PanopticSeg",
    "PanopticSegment",
    "Prediction",
    "Proposal",
    "Retry",
    "SemSeg",
    "SemSegClass",
    "TorchServeProcess",
    "draw",
    "parse_prediction",
]

_HOMES = {
    "AsyncD2ServeClient": "http_client",
    "ClientError": "errors",
    "D2ServeClient": "http_client",
    "D2ServeGrpcClient": "grpc_client",
    "Instance": "responses",
    "ManagementClient": "management",
    "PanopticSeg": "responses",
    "PanopticSegment": "responses",
    "Prediction": "responses",
    "Proposal": "responses",
    "Retry": "retrying",
    "SemSeg": "responses",
    "SemSegClass": "responses",
    "TorchServeProcess": "server",
    "draw": "drawing",
    "parse_prediction": "responses",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
