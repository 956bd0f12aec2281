"""The archives without torch of the client's tests."""

from __future__ import annotations

from tests.client.conftest import archives

__all__ = ["archives"]
