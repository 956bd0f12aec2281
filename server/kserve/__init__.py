"""Serves archives on KServe's own Python server.

What answers requests is ours, from the bytes on; KServe's server gives the processes, the routes
of its protocols, health, metrics and its gRPC service. docs/decisions/0025-kserve.md says why.

serving -> workers, model_server -> front, grpc_service -> version_1, messages -> models -> queue
"""
