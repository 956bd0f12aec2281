"""What a server with a state starts with: what was registered, and what its command names anew."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from d2serve.client.errors import ServerStartError
from d2serve.handlers.cores import available_cores
from d2serve.server.archives.contents import read_contents
from d2serve.server.archives.model_archives import ServedModel
from d2serve.server.archives.own_settings import NUMBERS, own_settings, own_workers
from d2serve.server.state.registrations import Registration, snapshot
from d2serve.server.state.state_file import State

# TorchServe's own.
_DEFAULTS = {
    "batch_size": 1,
    "max_batch_delay": 100,
    "response_timeout": 120,
    "startup_timeout": 120,
}
_CONFIGURED = {
    "response_timeout": "default_response_timeout",
    "startup_timeout": "default_startup_timeout",
}
_WORKERS = "default_workers_per_model"


@dataclass(frozen=True)
class Start:
    """What TorchServeProcess is to be made with."""

    models: list[str]
    """Each with its name."""
    overrides: Mapping[str, str]
    given: frozenset[tuple[str, str]]
    """Name and version of what the command named."""
    added: tuple[str, ...]
    """Name and version of what it named anew, in words."""


def planned(
    state: State | None, given: Sequence[ServedModel], settings: Mapping[str, str], path: Path
) -> Start:
    """What to start.

    What a state says is served, as it was. Of what the command names, only what it did not name
    when the state was kept is added: an archive that was retired since stays retired.

    Args:
        state: of the last start; None where there was none.
        given: what the command names.
        settings: of config.properties.
        path: of the state, for the errors.

    Raises:
        ServerStartError: an archive of the state is gone or holds another version, or there is
            nothing to serve.
        ArchiveRefused: an archive cannot be read.
    """
    versions = [(model.name, read_contents(model.archive).version) for model in given]
    named = frozenset(versions)
    if state is None:
        return Start([f"{m.name}={m.archive}" for m in given], {}, named, ())
    _require_archives(state.registrations, path)
    there = {(each.name, each.version) for each in state.registrations}
    names = {each.name for each in state.registrations}
    registrations = [*state.registrations]
    added: list[str] = []
    for model, key in zip(given, versions):
        if key in there or key in state.given:
            continue
        registrations.append(_fresh(model, key[1], model.name not in names, settings))
        added.append(" ".join(key))
        names.add(model.name)
        there.add(key)
    if not registrations:
        raise ServerStartError(
            f"Nothing to serve: {path} says that every model was unregistered. Name a new archive, "
            f"or remove {path} to serve those that the command names."
        )
    models = [each.argument for each in registrations]
    overrides = {"model_snapshot": snapshot(registrations)}
    return Start(models, overrides, named, tuple(added))


def moved(state: State, store: Path) -> State:
    """The same state with archives that are gone looked for, by their names, in a model store."""
    registrations = tuple(
        replace(each, archive=store / each.archive.name)
        if not each.archive.is_file() and (store / each.archive.name).is_file()
        else each
        for each in state.registrations
    )
    return replace(state, registrations=registrations)


def _require_archives(registrations: Sequence[Registration], path: Path) -> None:
    gone = [each for each in registrations if not each.archive.is_file()]
    if gone:
        which = ", ".join(f"{each.archive} ({each.name} {each.version})" for each in gone)
        raise ServerStartError(
            f"What {path} says was served is not there any more: {which}. Put it back, or take its "
            f"entry out of {path}."
        )
    for each in registrations:
        version = read_contents(each.archive).version
        if version != each.version:
            raise ServerStartError(
                f"{each.archive} holds version {version}, and {path} says that {each.version} of "
                f"{each.name} was served from it. Put that back; to serve {version} instead, "
                f"remove {path}, or correct its entry."
            )


def _fresh(
    model: ServedModel, version: str, is_default: bool, settings: Mapping[str, str]
) -> Registration:
    """A version as TorchServe would register it at a start without a state."""
    own = own_settings(model.archive)
    workers = own_workers(own) or (_default_workers(settings),) * 2
    numbers = {
        name: own.get(NUMBERS[name]) or _number(settings, _CONFIGURED.get(name)) or default
        for name, default in _DEFAULTS.items()
    }
    return Registration(
        model.name, version, is_default, model.archive.absolute(), *workers, **numbers
    )


def _default_workers(settings: Mapping[str, str]) -> int:
    """TorchServe's own rule: as set, or one for each GPU, or one for each core."""
    return _number(settings, _WORKERS) or _gpus() or available_cores()


def _gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([each for each in visible.split(",") if each.strip()])
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return len(listed.stdout.split()) if listed.returncode == 0 else 0


def _number(settings: Mapping[str, str], name: str | None) -> int:
    given = "" if name is None else settings.get(name, "").strip()
    return int(given) if given.isdecimal() else 0
