"""Ask d2serve's archives, which TorchServe serves or this process opens: predict, manage, draw.

The names below are the public ones; each is imported when it is first used, so that predicting
over HTTP loads no gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2serve.client.connection.retrying import Retry
    from d2serve.client.connection.settings import ConnectionSettings
    from d2serve.client.drawing import draw
    from d2serve.client.errors import (
        AuthorizationError,
        ClientError,
        DeadlineExceeded,
        EmptyRequest,
        ImageTooLarge,
        ImageTooSlow,
        InsecureConnection,
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
    from d2serve.client.management import ManagementClient
    from d2serve.client.predict.async_client import AsyncD2ServeClient
    from d2serve.client.predict.grpc_client import D2ServeGrpcClient
    from d2serve.client.predict.http_client import D2ServeClient
    from d2serve.client.predict.in_process import InProcessClient
    from d2serve.client.predict.options import PictureOptions, PredictOptions
    from d2serve.client.results.prediction import (
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

__all__ = [
    "AsyncD2ServeClient",
    "AuthorizationError",
    "ClientError",
    "ConnectionSettings",
    "D2ServeClient",
    "D2ServeGrpcClient",
    "DeadlineExceeded",
    "EmptyRequest",
    "ImageTooLarge",
    "ImageTooSlow",
    "InProcessClient",
    "InsecureConnection",
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
    "PictureOptions",
    "PolygonMask",
    "PredictOptions",
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
    "UnsupportedImageFormat",
    "draw",
    "parse_prediction",
]

_HOMES = {
    "AsyncD2ServeClient": "predict.async_client",
    "AuthorizationError": "errors",
    "ClientError": "errors",
    "ConnectionSettings": "connection.settings",
    "D2ServeClient": "predict.http_client",
    "D2ServeGrpcClient": "predict.grpc_client",
    "DeadlineExceeded": "errors",
    "EmptyRequest": "errors",
    "ImageTooLarge": "errors",
    "ImageTooSlow": "errors",
    "InProcessClient": "predict.in_process",
    "InsecureConnection": "errors",
    "Instance": "results.prediction",
    "InvalidImage": "errors",
    "InvalidInput": "errors",
    "InvalidOption": "errors",
    "MalformedReply": "errors",
    "ManagementClient": "management",
    "ModelFailed": "errors",
    "ModelNotFound": "errors",
    "NotConnected": "errors",
    "PanopticSeg": "results.prediction",
    "PanopticSegment": "results.prediction",
    "PictureOptions": "predict.options",
    "PolygonMask": "results.prediction",
    "PredictOptions": "predict.options",
    "Prediction": "results.prediction",
    "Proposal": "results.prediction",
    "ReplyTooLarge": "errors",
    "RequestRejected": "errors",
    "Retry": "connection.retrying",
    "RunLengthMask": "results.prediction",
    "SemSeg": "results.prediction",
    "SemSegClass": "results.prediction",
    "ServerFailed": "errors",
    "ServerOverloaded": "errors",
    "ServerUnavailable": "errors",
    "UnsupportedImageFormat": "errors",
    "draw": "drawing",
    "parse_prediction": "results.prediction",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
