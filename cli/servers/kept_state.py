"""What ``d2serve serve --state`` reads before the start and keeps while it serves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from d2serve.cli.progress import note
from d2serve.client.errors import ServerStartError
from d2serve.server.archives.model_archives import ServedModel, resolve_models
from d2serve.server.state.keeping import StateKeeper
from d2serve.server.state.starting import Start, moved, planned
from d2serve.server.state.state_file import read_state, require_writable
from d2serve.server.torchserve.config.properties import read_properties, safe_defaults
from d2serve.server.torchserve.process import TorchServeProcess


class KeptState:
    """The state of one server; without a file, it has none and keeps none."""

    def __init__(self, path: Path | None) -> None:
        """
        Raises:
            ServerStartError: the file is there and no state, or it cannot be written.
        """
        self._path = path
        if path is not None:
            require_writable(path)
        self._state = None if path is None else read_state(path)
        self._keeper: StateKeeper | None = None

    @property
    def models(self) -> list[str]:
        """What the state says was served, as `d2serve serve` takes it."""
        return [each.argument for each in self._state.registrations] if self._state else []

    def start(self, models: Sequence[str], store: Path | None, config: Path | None) -> Start:
        """What to start, if the command names these models.

        Raises:
            ServerStartError: an archive is not there, or there is nothing to serve.
        """
        state = self._state
        given = resolve_models(models, store) if state is None else self._found(models, store)
        settings = safe_defaults() if config is None else read_properties(config)
        if state is not None and store is not None:
            state = moved(state, store.resolve())
        start = planned(state, given, settings, self._path or Path())
        if self._path is not None:
            originals = {model.archive.name: model.archive for model in given}
            before = state.given if state is not None and len(given) < len(models) else frozenset()
            self._keeper = StateKeeper(self._path, start.given | before, originals, note)
        if state is not None:
            added = f", and {', '.join(start.added)}" if start.added else ""
            note(f"What {self._path} says was served is served again{added}.")
        return start

    def _found(self, models: Sequence[str], store: Path | None) -> list[ServedModel]:
        """The archives that the command names, but for those that cannot be read: one that an
        upgrade has retired may be gone."""
        found: list[ServedModel] = []
        for model in models:
            try:
                found += resolve_models([model], store)
            except ServerStartError as error:
                note(f"{self._path} says what is served, so {model} is left out: {error}")
        return found

    def saw(self, line: str) -> None:
        """Take in a line of TorchServe's log."""
        if self._keeper is not None:
            self._keeper.saw(line)

    @contextlib.contextmanager
    def keeping(self, server: TorchServeProcess) -> Iterator[None]:
        """Keep the file while this lasts; to be left before the server is stopped."""
        if self._keeper is None:
            yield
            return
        self._keeper.start(server.management, server.directory)
        try:
            yield
        finally:
            self._keeper.stop()
