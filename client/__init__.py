"""Talk to a TorchServe that serves d2serve's archives: predict, manage, start, draw.

The names below are the public ones; each is imported when it is first used, so that predicting
over HTTP loads neither gRPC nor what starts servers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2serve.client.async_client import AsyncD2ServeClient
    from d2serve.client.drawing import draw
    from d2serve.client.errors import (
        AuthorizationError,
        ClientError,
        EmptyRequest,
        ImageTooLarge,
        ImageTooSlow,
        InvalidImage,
        InvalidInput,
        InvalidOption,
        MalformedReply,
        ModelFailed,
        ModelNotFound,
        NotConnected,
        ReplyTooLarge,
        RequestRejected,
        ServerFailed,
        ServerOverloaded,
        ServerUnavailable,
        UnsupportedImageFormat,
    )
    from d2serve.client.grpc_client import D2ServeGrpcClient
    from d2serve.client.http_client import D2ServeClient
    from d2serve.client.management import ManagementClient
    from d2serve.client.responses import (
        Instance,
        PanopticSeg,
        PanopticSegment,
        PolygonMask,
        Prediction,
        Proposal,
        RunLengthMask,
        SemSeg,
        SemSegClass,
        parse_prediction,
    )
    from d2serve.client.retrying import Retry
    from d2serve.client.server import TorchServeProcess

__all__ = [
    "AsyncD2ServeClient",
    "AuthorizationError",
    "ClientError",
    "D2ServeClient",
    "D2ServeGrpcClient",
    "EmptyRequest",
    "ImageTooLarge",
    "ImageTooSlow",
    "Instance",
    "InvalidImage",
    "InvalidInput",
    "InvalidOption",
    "MalformedReply",
    "ManagementClient",
    "ModelFailed",
    "ModelNotFound",
    "NotConnected",
    "PanopticSeg",
    "PanopticSegment",
    "PolygonMask",
    "Prediction",
    "Proposal",
    "ReplyTooLarge",
    "RequestRejected",
    "Retry",
    "RunLengthMask",
    "SemSeg",
    "SemSegClass",
    "ServerFailed",
    "ServerOverloaded",
    "ServerUnavailable",
    "TorchServeProcess",
    "UnsupportedImageFormat",
    "draw",
    "parse_prediction",
]

_HOMES = {
    "AsyncD2ServeClient": "async_client",
    "AuthorizationError": "errors",
    "ClientError": "errors",
    "D2ServeClient": "http_client",
    "D2ServeGrpcClient": "grpc_client",
    "EmptyRequest": "errors",
    "ImageTooLarge": "errors",
    "ImageTooSlow": "errors",
    "Instance": "responses",
    "InvalidImage": "errors",
    "InvalidInput": "errors",
    "InvalidOption": "errors",
    "MalformedReply": "errors",
    "ManagementClient": "management",
    "ModelFailed": "errors",
    "ModelNotFound": "errors",
    "NotConnected": "errors",
    "PanopticSeg": "responses",
    "PanopticSegment": "responses",
    "PolygonMask": "responses",
    "Prediction": "responses",
    "Proposal": "responses",
    "ReplyTooLarge": "errors",
    "RequestRejected": "errors",
    "Retry": "retrying",
    "RunLengthMask": "responses",
    "SemSeg": "responses",
    "SemSegClass": "responses",
    "ServerFailed": "errors",
    "ServerOverloaded": "errors",
    "ServerUnavailable": "errors",
    "TorchServeProcess": "server",
    "UnsupportedImageFormat": "errors",
    "draw": "drawing",
    "parse_prediction": "responses",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
