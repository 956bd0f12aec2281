"""What an export made, for whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from d2serve.export.proof.verification import Verification
from d2serve.handlers.spec.model_spec import ModelSpec


@dataclass(frozen=True)
class ExportResult:
    """What an export made."""

    archive: Path
    spec: ModelSpec
    verification: Verification
    notes: tuple[str, ...] = ()
    """What the user should know of how config and weights were read."""
