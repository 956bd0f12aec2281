"""What is to be served on Ray Serve, and how: checked before anything is started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from d2serve.client.own_handling import Handling, held_to, own_handling
from d2serve.handlers.archive_checks import check_archive
from d2serve.handlers.bundle import read_bundled_spec, read_version
from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.batching import MODES, BatchPlanner
from d2serve.handlers.spec.model_spec import ModelSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Names and versions that a path of HTTP and a deployment of Ray Serve have as they are."""
_BODY_OF_IMAGE = 2
"""A body may have so many times the bytes of an image: base64 and a form make it longer."""


class WrongSettings(ValueError):
    """What is asked for cannot be served; the message says why, and what to do."""


@dataclass(frozen=True)
class Replicas:
    """How many processes answer for a model."""

    least: int = 1
    most: int = 1

    @staticmethod
    def parse(text: str) -> Replicas:
        """Of ``3`` or, to follow the load, of ``1:10``.

        Raises:
            WrongSettings: it is neither.
        """
        found = re.fullmatch(r"(\d{1,4})(?::(\d{1,4}))?", text.strip(), re.ASCII)
        least = int(found[1]) if found else 0
        most = int(found[2] or found[1]) if found else 0
        if not 1 <= least <= most:
            raise WrongSettings(
                f"Got {text[:40]!r} replicas, expected a number such as 2, or two such as 1:10: "
                "with little to do and at most."
            )
        return Replicas(least, most)


@dataclass(frozen=True)
class Settings:
    """How each model is served."""

    replicas: Replicas = Replicas()
    cpus_per_replica: float = 1.0
    """That Ray sets aside, and threads that a replica uses."""
    gpus_per_replica: float = 0.0
    """That Ray sets aside; with any, the model runs on a GPU."""
    batching: str | None = None
    """As ``Detector.open`` takes it; None leaves it to the archive."""
    batch_size: int = 8
    """Images in a call of the program at most, where it is called with several."""
    answer_seconds: float = 120.0
    """After which a request is answered that it came too late."""
    drain_seconds: float = 30.0
    """For which a replica that has to go answers what it was asked."""

    def check(self) -> None:
        """
        Raises:
            WrongSettings: a value that cannot be.
        """
        if self.batching is not None and self.batching not in MODES:
            raise WrongSettings(
                f"Got batching {self.batching!r}, expected one of {', '.join(MODES)}."
            )
        if not 0.1 <= self.cpus_per_replica <= 1024:
            raise WrongSettings(
                f"Got {self.cpus_per_replica:g} CPUs for a replica, expected 0.1 to 1024."
            )
        if self.gpus_per_replica < 0 or (
            self.gpus_per_replica > 1 and self.gpus_per_replica != int(self.gpus_per_replica)
        ):
            raise WrongSettings(
                f"Got {self.gpus_per_replica:g} GPUs for a replica, expected a part of one such as "
                "0.5, or 1: a replica uses one."
            )
        if not 1 <= self.batch_size <= 1024:
            raise WrongSettings(f"Got batches of {self.batch_size}, expected 1 to 1024 images.")


@dataclass(frozen=True)
class ServedModel:
    """One archive, and under which name and version it is served."""

    archive: Path
    name: str
    version: str
    spec: ModelSpec
    """With the limits that hold."""
    handling: Handling = field(default_factory=Handling)
    """How it is opened, by the settings and by what the archive says."""

    @property
    def batching(self) -> str:
        return self.handling.get("batching", "auto")

    @property
    def key(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def deployment(self) -> str:
        """Its name in Ray Serve."""
        return f"{self.name}-{self.version}"


def read_models(given: Sequence[str], settings: Settings) -> list[ServedModel]:
    """What archives say of themselves.

    Args:
        given: ``FILE.mar`` or ``NAME=FILE.mar`` each; a folder that one was extracted to will do.
        settings: those that have to suit the programs.

    Raises:
        WrongSettings: there are none, two are the same, or they do not suit the settings.
        LoadError: one is no archive, or damaged.
        ArchiveRefused: its model-config.yaml cannot be read.
    """
    settings.check()
    if not given:
        raise WrongSettings("Got no archives, expected one or more: FILE.mar or NAME=FILE.mar.")
    models = [_read(each, settings) for each in given]
    for index, model in enumerate(models):
        for other in models[:index]:
            if other.key == model.key:
                raise WrongSettings(
                    f"{other.archive} and {model.archive} are both {model.name} "
                    f"{model.version}. Serve one, or another name: NAME={model.archive}."
                )
        _check_batching(model)
    return models


def body_bytes(models: Sequence[ServedModel]) -> int:
    """How long a body may be, for the model that takes the largest images."""
    return _BODY_OF_IMAGE * max(each.spec.limits.max_image_bytes for each in models)


def _read(given: str, settings: Settings) -> ServedModel:
    name, _, file = given.rpartition("=")
    path = Path(file).absolute()
    if not path.exists():
        raise WrongSettings(
            f"There is no {path}. Expected an archive, at the same path on every machine that has "
            "a replica."
        )
    if path.is_file():
        check_archive(path)
    handling = own_handling(path)
    if settings.batching is not None:
        handling["batching"] = settings.batching
    spec, version = held_to(read_bundled_spec(path), handling), read_version(path)
    for each in (name or spec.name, version):
        if not _NAME.fullmatch(each):
            raise WrongSettings(
                f"{path} would be served as {each!r}, expected ASCII letters, digits, points, "
                f"underscores and hyphens. Give it another name: NAME={file}."
            )
    return ServedModel(path, name or spec.name, version, spec, handling)


def _check_batching(model: ServedModel) -> None:
    try:
        BatchPlanner(model.batching, model.spec.dynamic_batch, False)
    except LoadError as error:
        raise WrongSettings(f"{model.archive}: {error}") from None
