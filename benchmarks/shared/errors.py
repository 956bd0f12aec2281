"""Why: a benchmark that cannot be trusted must stop and say so instead of printing figures."""

from __future__ import annotations


class BenchError(Exception):
    """A step failed, or the sides do not do the same work."""
