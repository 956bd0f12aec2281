"""Serves archives on Ray Serve."""
