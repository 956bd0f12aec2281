"""What an archive's own model-config.yaml says of how TorchServe is to serve it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from d2serve.client.errors import ArchiveRefused
from d2serve.handlers.archive_checks import opened_archive
from d2serve.handlers.bundle import MANIFEST
from d2serve.handlers.errors import LoadError
from d2serve.handlers.spec.limits import SETTING as LIMITS

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
    settings = _settings(archive)
    names = (*NUMBERS.values(), MIN_WORKERS, MAX_WORKERS)
    numbers = {name: settings.get(name) for name in names}
    return {name: n for name, n in numbers.items() if type(n) is int and n > 0}


def own_workers(own: Mapping[str, int]) -> tuple[int, int] | None:
    """Fewest and most workers that these settings ask for; None where they leave it open."""
    fewest, most = own.get(MIN_WORKERS, 0), own.get(MAX_WORKERS, 0)
    return (fewest, most) if 0 < fewest <= most else None


def own_handling(archive: Path) -> tuple[str, object]:
    """How an archive's model-config.yaml has requests answered: ``batching`` and ``limits``, as
    ``Detector.open`` takes them.

    Args:
        archive: a .mar, or the folder that one was unpacked to.

    Raises:
        ArchiveRefused: it is no archive, or its settings cannot be read.
    """
    settings = _settings(archive)
    return str(settings.get("batching", "auto")), settings.get(LIMITS)


def _settings(archive: Path) -> Mapping[str, Any]:
    try:
        if archive.is_dir():
            found = _of_yaml(lambda name: (archive / name).read_bytes())
        else:
            with opened_archive(archive) as opened:
                found = _of_yaml(opened.read)
    except LoadError as error:
        raise ArchiveRefused(str(error)) from error
    except (AttributeError, KeyError, TypeError, ValueError, OSError, yaml.YAMLError) as error:
        raise ArchiveRefused(
            f"The model-config.yaml of {archive} cannot be read ({error}). Export it again."
        ) from error
    return found if isinstance(found, dict) else {}


def _of_yaml(read: Callable[[str], bytes]) -> Any:
    file = json.loads(read(MANIFEST))["model"].get("configFile")
    return yaml.safe_load(read(file)) if file else {}
