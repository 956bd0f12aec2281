"""Serves archives on KServe's own Python server."""
