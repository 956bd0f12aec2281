"""Keeps a state file up to date while a server runs."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from d2serve.client.errors import ClientError, ServerStartError
from d2serve.client.management import ManagementClient
from d2serve.server.archives.model_archives import STORE_NAME
from d2serve.server.state.registrations import registered
from d2serve.server.state.state_file import State, unwritable, write_state

_CHANGE = re.compile(r"(?:POST|PUT|DELETE) /models|ManagementAPIsService/")
_SECONDS_BETWEEN = 30.0
_SECONDS_WHILE_LOADING = 1.0
_SECONDS_TO_END = 3.0


class StateKeeper:
    """Writes what is registered into a file whenever it changes, while its ``with`` lasts.

    A change is known from TorchServe's access log, at once; and every 30 s it looks without one.
    Asking more often would fill the log that the user reads.
    """

    def __init__(
        self,
        path: Path,
        given: frozenset[tuple[str, str]],
        originals: Mapping[str, Path],
        on_problem: Callable[[str], None],
    ) -> None:
        """
        Args:
            path: of the file.
            given: name and version of what the command named.
            originals: the archives that the command named by their file names: those in the
                server's own store may be copies, which end with it.
            on_problem: is called with what keeps the file from being written, from a thread.
        """
        self._path = path
        self._given = given
        self._originals = originals
        self._on_problem = on_problem
        self._written: State | None = None
        self._known: set[tuple[str, str]] = set()
        self._has_failed = False
        self._is_closed = False
        self._changed = threading.Event()
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None
        self._management: ManagementClient | None = None
        self._store = Path()

    def saw(self, line: str) -> None:
        """Take in a line of TorchServe's log."""
        if _CHANGE.search(line):
            self._changed.set()

    def start(self, management: ManagementClient, directory: Path) -> None:
        """Write what is registered now, and keep the file from now on.

        Args:
            management: a client of the running server.
            directory: the server's private one.

        Raises:
            ServerStartError: the file cannot be written.
        """
        self._management, self._store = management, directory / STORE_NAME
        try:
            self._look()
        except OSError as error:
            raise ServerStartError(unwritable(self._path, error)) from error
        self._thread = threading.Thread(target=self._keep, name="d2serve-state", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is registered a last time. Call it before TorchServe is asked to stop, which
        unregisters one model after the other."""
        if self._thread is None:
            return
        self._is_over.set()
        self._changed.set()
        self._thread.join(_SECONDS_TO_END)
        self._thread = None
        self._is_closed = True

    def _keep(self) -> None:
        wait, pause = _SECONDS_BETWEEN, _SECONDS_WHILE_LOADING
        while True:
            if self._changed.wait(wait):
                pause = _SECONDS_WHILE_LOADING
            self._changed.clear()
            is_over = self._is_over.is_set()
            try:
                if self._look():
                    wait = _SECONDS_BETWEEN
                else:  # soon again, and not for ever: it may never load
                    wait, pause = pause, min(2 * pause, _SECONDS_BETWEEN)
            except ClientError:  # it ends, or is too busy to answer: what was written stays
                wait, pause = pause, min(2 * pause, _SECONDS_BETWEEN)
            except OSError as error:
                wait = _SECONDS_BETWEEN
                if not self._has_failed:
                    self._has_failed = True
                    self._on_problem(unwritable(self._path, error))
            if is_over:
                return

    def _look(self) -> bool:
        """Write what is registered if that is new; returns whether all of it has loaded."""
        assert self._management is not None
        registrations, are_all = registered(self._management, self._archive_of, self._known)
        self._known = {(each.name, each.version) for each in registrations}
        state = State(tuple(registrations), self._given)
        if state != self._written and not self._is_closed:
            write_state(self._path, state)
            self._written, self._has_failed = state, False
        return are_all

    def _archive_of(self, url: str) -> Path | None:
        """The file that is registered under a URL, where it stays when the server ends."""
        if url.startswith("/"):  # a folder: TorchServe takes no file from outside its store
            return None
        name = url.rpartition("/")[2]
        entry = self._store / name
        if self._store.is_symlink():  # the user's own
            return self._store.resolve() / name
        if entry.is_symlink():
            return entry.readlink()
        return self._originals.get(name, entry)
