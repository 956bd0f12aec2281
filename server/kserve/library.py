"""What is used of KServe, imported in one place: its server parses the command line of whatever
process imports it, and would take ours for its own."""

from __future__ import annotations

import sys

_arguments = sys.argv
sys.argv = _arguments[:1]
try:
    from kserve.model import BaseKServeModel
    from kserve.model_server import ModelServer, app
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services
    from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
    from kserve.protocol.grpc.server import GRPCServer
    from kserve.protocol.rest.server import RESTServer
finally:
    sys.argv = _arguments

__all__ = [
    "BaseKServeModel",
    "ExceptionToStatusInterceptor",
    "GRPCServer",
    "ModelServer",
    "RESTServer",
    "app",
    "messages",
    "services",
]
