"""One version of a model as a server serves it: its archive, its workers, its batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2serve.client.management import ALL_VERSIONS, ManagementClient
from d2serve.client.model_descriptions import ModelDescription


@dataclass(frozen=True)
class Registration:
    """A version of a model; the numbers are TorchServe's."""

    name: str
    version: str
    is_default: bool
    """Whether it answers where a request names no version."""
    archive: Path
    """Absolute."""
    min_workers: int
    max_workers: int
    batch_size: int
    max_batch_delay: int
    """Milliseconds."""
    response_timeout: int
    """Seconds, as is the next."""
    startup_timeout: int

    @property
    def argument(self) -> str:
        """As TorchServeProcess and `d2serve serve` take it."""
        return f"{self.name}={self.archive}"


def registered(
    management: ManagementClient,
    archive_of: Callable[[str], Path | None],
    known: Container[tuple[str, str]],
) -> tuple[list[Registration], bool]:
    """What a running server serves.

    Args:
        management: a client of it.
        archive_of: gives the file of a registered URL; None where there is none to come back to.
        known: names and versions that have been READY before; a worker of theirs may have died
            just now.

    Returns:
        Each version that could answer at some time, the default one of a model first; and whether
        these are all. One that is loading for the first time is left out: should it never load, it
        must not keep the next start from serving the others.

    Raises:
        ClientError: the server does not answer.
    """
    found: list[Registration] = []
    are_all = True
    for name in sorted(management.list_models()):
        (default,) = management.describe(name)
        versions = management.describe(name, ALL_VERSIONS)
        for each in sorted(versions, key=lambda each: each.version != default.version):
            archive = archive_of(each.url)
            if archive is None:
                continue
            is_known = (each.name, each.version) in known
            if is_known or each.is_ready or each.max_workers == 0:
                found.append(_registration(each, each.version == default.version, archive))
            else:
                are_all = False
    return found, are_all


def snapshot(registrations: Sequence[Registration]) -> str:
    """The value of TorchServe's ``model_snapshot``, which serves exactly these at its start.

    `--models` would not do: what an archive's model-config.yaml says of workers and batches wins
    over it, though somebody may have registered or scaled the model otherwise.
    """
    models: dict[str, dict[str, object]] = {}
    for each in registrations:
        models.setdefault(each.name, {})[each.version] = {
            "defaultVersion": each.is_default,
            "marName": each.archive.name,
            "minWorkers": each.min_workers,
            "maxWorkers": each.max_workers,
            "batchSize": each.batch_size,
            "maxBatchDelay": each.max_batch_delay,
            "responseTimeout": each.response_timeout,
            "startupTimeout": each.startup_timeout,
        }
    whole = {"name": "d2serve", "modelCount": len(registrations), "created": 0, "models": models}
    return json.dumps(whole)


def _registration(described: ModelDescription, is_default: bool, archive: Path) -> Registration:
    timeouts = (int(described.raw[key]) for key in ("responseTimeout", "startupTimeout"))
    return Registration(
        described.name,
        described.version,
        is_default,
        archive,
        described.min_workers,
        described.max_workers,
        described.batch_size,
        described.max_batch_delay,
        *timeouts,
    )
