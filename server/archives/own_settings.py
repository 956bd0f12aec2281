"""What an archive's own model-config.yaml says of how TorchServe is to serve it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from d2serve.client.own_handling import yaml_settings

NUMBERS: Mapping[str, str] = MappingProxyType(
    {
        "batch_size": "batchSize",
        "max_batch_delay": "maxBatchDelay",
        "response_timeout": "responseTimeout",
        "startup_timeout": "startupTimeout",
    }
)
"""Settings of a registration that an archive may bring itself, and their names there."""
MIN_WORKERS, MAX_WORKERS = "minWorkers", "maxWorkers"
"""They go together: TorchServe takes both or neither."""


def own_settings(archive: Path) -> dict[str, int]:
    """The numbers above 0 of an archive's model-config.yaml, by the names that they have there.

    Raises:
        ArchiveRefused: it is no archive, or its settings cannot be read.
    """
    settings = yaml_settings(archive)
    names = (*NUMBERS.values(), MIN_WORKERS, MAX_WORKERS)
    numbers = {name: settings.get(name) for name in names}
    return {name: n for name, n in numbers.items() if type(n) is int and n > 0}


def own_workers(own: Mapping[str, int]) -> tuple[int, int] | None:
    """Fewest and most workers that these settings ask for; None where they leave it open."""
    fewest, most = own.get(MIN_WORKERS, 0), own.get(MAX_WORKERS, 0)
    return (fewest, most) if 0 < fewest <= most else None
