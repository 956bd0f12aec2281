"""The models that an application serves, by name and version, and how each is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Callable

from d2serve.handlers.replies.reply import Reply
from d2serve.handlers.requests.request import DESCRIBE, HTTP, Request
from d2serve.server.asgi.refusals import Refused, no_such_model

Ask = Callable[[Request], Awaitable[Reply]]
"""Gives a model's reply to a request. It may raise ``refusals.Overloaded``."""

_SECONDS_TO_DESCRIBE = 5.0


class Models:
    """Models by name and version; of a name, the first answers where no version is asked for."""

    def __init__(self, asks: Mapping[str, Ask]) -> None:
        """
        Args:
            asks: by NAME or NAME/VERSION.
        """
        self._asks: dict[str, dict[str | None, Ask]] = {}
        for key, ask in asks.items():
            name, _, version = key.partition("/")
            self._asks.setdefault(name, {})[version or None] = ask

    def only(self) -> str | None:
        """The name of the model, where there is one only."""
        return next(iter(self._asks)) if len(self._asks) == 1 else None

    def listed(self) -> list[tuple[str, str | None]]:
        """Each name and version, in order; without a version where it was given without."""
        return [(name, version) for name, found in self._asks.items() for version in found]

    def find(self, name: str, version: str | None) -> Ask:
        """How a model is asked.

        Raises:
            Refused: there is no such name or version.
        """
        versions = self._asks.get(name)
        if versions is None:
            raise no_such_model(name, version, list(self._asks))
        if version is None:
            return next(iter(versions.values()))
        if version not in versions:
            there = [name if each is None else f"{name}/{each}" for each in versions]
            raise no_such_model(name, version, there)
        return versions[version]

    async def describe(self, name: str, version: str | None) -> Reply:
        """A model's metadata.

        Raises:
            Refused: there is no such model, or it does not say within a few seconds.
        """
        asked = self.find(name, version)(Request(kind=DESCRIBE, transport=HTTP))
        try:
            return await asyncio.wait_for(asked, _SECONDS_TO_DESCRIBE)
        except asyncio.TimeoutError:
            raise Refused(
                503, "unavailable", f"The model {name} does not answer. Ask again later."
            ) from None

    async def is_ready(self, name: str | None = None, version: str | None = None) -> bool:
        """Whether a model answers; without a name, whether all do.

        Raises:
            Refused: there is no such model.
        """
        chosen = self.listed() if name is None else [(name, version)]
        for each in chosen:
            self.find(*each)
        found = await asyncio.gather(
            *(self.describe(*each) for each in chosen), return_exceptions=True
        )
        return all(isinstance(each, Reply) and each.status == 200 for each in found)
