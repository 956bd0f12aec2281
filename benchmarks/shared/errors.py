"""The error that stops a benchmark: one that cannot be trusted says so and prints no figures."""

from __future__ import annotations


class BenchError(Exception):
    """A step failed, or the sides do not do the same work."""
