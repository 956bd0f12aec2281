"""Serves a model's service as an ASGI application: what HTTP engines share."""
