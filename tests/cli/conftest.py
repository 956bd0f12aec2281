"""A terminal as wide as each test says: rich keeps the width that it is first imported with."""

from __future__ import annotations

import d2serve.cli.progress  # noqa: F401  now, and not within a test that has set COLUMNS
