"""What an archive was made from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Provenance:
    """What an export read, so that an archive can be traced back to it."""

    config: str
    """Name of the config file, or in the model zoo."""
    config_sha256: str
    """SHA-256 of the config once everything is merged, but for where its weights lie."""
    weights: str
    """Name of the weights file; in brackets where in it they stood, where detectron2 would not
    look."""
    weights_sha256: str
    class_names: str | None = None
    """Where the names of the classes were found; None where they have none, and in archives of
    schema 3."""
    stuff_class_names: str | None = None
    """Likewise of the labels of sem_seg."""
