"""What ends a batch, beside images that cannot be found."""

from __future__ import annotations

from d2serve.client.errors import ClientError


class BatchRefused(ClientError):
    """It is not begun: with these settings, results or machines it would go wrong."""


class WorkersFailed(ClientError):
    """Workers end again and again, or cannot start; what was written stays."""
