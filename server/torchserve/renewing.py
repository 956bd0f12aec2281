"""Renews a server's tokens before they expire, as long as it runs.

TorchServe's tokens expire after 60 minutes by default, and nothing in TorchServe renews them. It
keeps one token of each kind: a new one ends the old one at once. So each is renewed late, with time
left for failures, and clients read the key file again (client/connection/asking.py).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

from d2serve.client.connection.credentials import KeyFile
from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.errors import AuthorizationError, ServerStartError
from d2serve.client.management import ManagementClient

CHECK_SECONDS = 1.0
"""Between two looks at the clock: the wait itself stands still while a machine is suspended."""

KINDS = ("inference", "management")

_SETTING = "token_expiration_min"
_DEFAULT_MINUTES = 60.0
_SHORTEST_MINUTES = 0.1
_LONGEST_MARGIN = timedelta(minutes=5)
_TIMEOUT_SECONDS = 10.0
"""Of one attempt. Each has a connection of its own: TorchServe lets one wait while another request
on the same thread registers a model synchronously."""

_log = logging.getLogger(__name__)


class TokenRenewal:
    """Renews the tokens of one server, in a thread of its own, from start() to stop()."""

    def __init__(self, settings: Mapping[str, str], management_address: str) -> None:
        """
        Args:
            settings: the server's.
            management_address: where its tokens are renewed.
        """
        self._settings = settings
        self._address = management_address
        self._stopped = threading.Event()

    @property
    def age(self) -> timedelta:
        """The age at which a token is renewed."""
        life = token_life(self._settings)
        return life - min(_LONGEST_MARGIN, life / 4)

    def start(self, key_file: Path | None) -> None:
        """Begin.

        Args:
            key_file: the server's, which need not be there yet; None where it has no tokens.

        Raises:
            ServerStartError: a token would end before it could be used.
        """
        if key_file is None:
            return
        margin = token_life(self._settings) - self.age
        self._stopped = threading.Event()
        threading.Thread(
            target=_Keeper(KeyFile(key_file), self._address, margin, self._stopped).run,
            name="d2serve-tokens",
            daemon=True,
        ).start()

    def stop(self) -> None:
        """Renew no more; returns at once, also where an attempt is under way."""
        self._stopped.set()


def token_life(settings: Mapping[str, str]) -> timedelta:
    """How long a token lives with these settings of TorchServe.

    Raises:
        ServerStartError: it would end before it could be used.
    """
    written = settings.get(_SETTING, "").strip()
    try:
        minutes = float(written or _DEFAULT_MINUTES)
    except ValueError:  # TorchServe takes its default, too
        minutes = _DEFAULT_MINUTES
    if not _SHORTEST_MINUTES <= minutes < math.inf:
        raise ServerStartError(
            f"Got {_SETTING}={written}, expected minutes, at least {_SHORTEST_MINUTES:g}: a token "
            "would end before it could be used. Without this line tokens hold for "
            f"{_DEFAULT_MINUTES:g} minutes, and `d2serve serve` renews them."
        )
    return timedelta(minutes=minutes)


class _Keeper:
    """What the thread does."""

    def __init__(
        self, key_file: KeyFile, address: str, margin: timedelta, stopped: threading.Event
    ) -> None:
        self._key_file = key_file
        self._address = address
        self._margin = margin
        self._stopped = stopped
        self._api_key: str | None = None
        self._is_failing = False

    def run(self) -> None:
        pause = CHECK_SECONDS
        while not self._stopped.wait(pause):
            pause = CHECK_SECONDS
            try:
                self._renew_what_is_due()
                self._is_failing = False
            except Exception as error:  # of whatever kind: without this thread the server is lost
                pause = max(CHECK_SECONDS, self._margin.total_seconds() / 10)
                self._say_once(error, pause)

    def _renew_what_is_due(self) -> None:
        if self._api_key is None:
            if not self._key_file.path.exists():  # TorchServe is not so far yet
                return
            self._api_key = self._key_file.api
        due = [kind for kind in KINDS if self._is_due(kind)]
        if not due:
            return
        with ManagementClient(self._address, timeout=_TIMEOUT_SECONDS, retry=NO_RETRY) as client:
            for kind in due:
                client.renew_token(kind, api_key=self._api_key)

    def _is_due(self, kind: str) -> bool:
        """Whether a token ends soon, or the file is gone or broken: where TorchServe could not
        write a new token, nobody knows it, and the next one comes with a whole file."""
        try:
            end = self._key_file.end_of(kind)
        except AuthorizationError:
            return True
        return end is not None and end - datetime.now(timezone.utc) <= self._margin

    def _say_once(self, error: Exception, pause: float) -> None:
        if self._is_failing or self._stopped.is_set():
            return
        self._is_failing = True
        _log.warning(
            "The server's tokens could not be renewed: %s This is tried again every %g s; once "
            "they have expired, the server refuses every request.",
            error,
            pause,
        )
