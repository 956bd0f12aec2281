"""How an archive's own model-config.yaml has requests answered, wherever it is served or asked.

TorchServe hands that file to its workers. Every other door opens the archive itself, and reads here
what it says, so that one archive answers the same everywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import yaml

from d2serve.client.errors import ArchiveRefused
from d2serve.handlers.archive_checks import opened_archive
from d2serve.handlers.bundle import MANIFEST
from d2serve.handlers.errors import LoadError
from d2serve.handlers.spec.convolution import AUTO, checked, require_replaceable
from d2serve.handlers.spec.convolution import SETTING as CONVOLUTION
from d2serve.handlers.spec.limits import SETTING as LIMITS
from d2serve.handlers.spec.model_spec import ModelSpec


class Handling(TypedDict, total=False):
    """As ``Detector.open`` takes it; what an archive leaves open is absent."""

    batching: str
    limits: object
    convolution: str


def own_handling(archive: str | os.PathLike[str]) -> Handling:
    """What an archive says of how it is to be opened.

    Args:
        archive: a .mar, or the folder that one was unpacked to.

    Raises:
        ArchiveRefused: it is no archive, or its settings cannot be read.
    """
    settings, own = yaml_settings(Path(archive)), Handling()
    if settings.get("batching") is not None:
        own["batching"] = str(settings["batching"])
    if settings.get(LIMITS) is not None:
        own["limits"] = settings[LIMITS]
    if settings.get(CONVOLUTION) is not None:
        own["convolution"] = str(settings[CONVOLUTION])
    return own


def held_to(spec: ModelSpec, handling: Handling) -> ModelSpec:
    """A spec with the limits of an archive's model-config.yaml.

    Raises:
        LoadError: a limit that does not exist, a value that it cannot have, or convolutions that
            the program cannot run with.
    """
    require_replaceable(spec.runtime, spec.precision, checked(handling.get("convolution", AUTO)))
    return replace(spec, limits=spec.limits.overridden(handling.get("limits")))


def yaml_settings(archive: Path) -> Mapping[str, Any]:
    """All that an archive's model-config.yaml says; nothing where it has none.

    Raises:
        ArchiveRefused: it is no archive, or its settings cannot be read.
    """
    try:
        if archive.is_dir():
            there = (archive / MANIFEST).exists()  # a folder that holds no more than a model
            found = _of_yaml(lambda name: (archive / name).read_bytes()) if there else {}
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
