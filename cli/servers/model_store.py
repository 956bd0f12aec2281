"""From which folder of archives ``d2serve serve`` serves, and what, if no archive is named."""

from __future__ import annotations

import os
from pathlib import Path

from d2serve.cli.options import DEFAULT_STORE
from d2serve.client.errors import ServerStartError
from d2serve.server.archives.model_archives import archives_of


def store_of(models: list[str], given: Path | None) -> Path | None:
    """The model store; None makes a private one, for archives that lie elsewhere.

    Args:
        models: that are to be served, as the command line names them.
        given: the folder that it names.

    Raises:
        ServerStartError: that is no folder, or may not be read.
    """
    if given is not None:
        if not given.is_dir():
            raise ServerStartError(f"There is no model store {given}: expected a folder of .mar.")
        if not os.access(given, os.R_OK | os.X_OK):
            raise ServerStartError(f"{given} may not be read by you: its owner has to allow it.")
        return given
    if not DEFAULT_STORE.is_dir():
        return None
    files = [Path(model.split("=", 1)[-1]) for model in models]
    inside = (
        (not file.is_absolute() and (DEFAULT_STORE / file).is_file())
        or file.parent.resolve() == DEFAULT_STORE.resolve()
        for file in files
    )
    return DEFAULT_STORE if all(inside) else None


def all_archives(store: Path | None, kept: list[str]) -> list[str]:
    """Every archive of a store.

    Args:
        store: the folder; None where there is none.
        kept: what a state says was served, which may lie elsewhere.

    Raises:
        ServerStartError: there is nothing to serve.
    """
    archives = [] if store is None else archives_of(store)
    if not archives and not kept:
        raise ServerStartError(
            f"Nothing to serve: no .mar in {store or DEFAULT_STORE}. Make one with "
            "`d2serve export`, or give one: `d2serve serve FILE.mar`."
        )
    return archives
