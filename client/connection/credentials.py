"""Tokens: TorchServe asks for one by default, and not for the same one everywhere.

TorchServe writes ``key_file.json`` into the directory it was started in. It holds three keys:
``inference`` (predict, ping), ``management`` (register, describe, scale…) and ``API`` (renews the
other two). The first two expire, after 60 minutes by default, and end when they are renewed. The
file is read at every use, so a token renewed in it is picked up by clients that are running.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from d2serve.client.errors import AuthorizationError

KEY_FILE_NAME = "key_file.json"
_WRITING_SECONDS = 0.5
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class KeyFile:
    """TorchServe's ``key_file.json``."""

    path: Path

    @property
    def inference(self) -> str:
        return self._key("inference")

    @property
    def management(self) -> str:
        return self._key("management")

    @property
    def api(self) -> str:
        return self._key("API")

    def end_of(self, kind: str) -> datetime | None:
        """When the key of this kind expires, to the second; None where the file does not say."""
        written = str(self._entry(kind).get("expiration time", ""))
        # Java writes nanoseconds, which fromisoformat does not take.
        try:
            return datetime.fromisoformat(written[:19]).replace(tzinfo=timezone.utc)
        except ValueError:
            return None

    def expired(self, kind: str) -> bool:
        """Whether the file itself says that the time of the key of this kind is over."""
        end = self.end_of(kind)
        return end is not None and datetime.now(timezone.utc) >= end

    def _key(self, kind: str) -> str:
        key = self._entry(kind).get("key")
        if not isinstance(key, str):
            raise AuthorizationError(f"{self.path} has no key for {kind}: {_WHAT_IT_IS}")
        return key

    def _entry(self, kind: str) -> dict[str, Any]:
        try:
            entry = self._content()[kind]
        except OSError as error:
            raise AuthorizationError(
                f"The key file {self.path} cannot be read ({error.strerror}): {_WHAT_IT_IS}"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise AuthorizationError(
                f"{self.path} is not a key file, {kind!r} is missing: {_WHAT_IT_IS}"
            ) from error
        return entry if isinstance(entry, dict) else {}

    def _content(self) -> Any:
        """The file, read again where it is no JSON: TorchServe empties it and then writes it."""
        deadline = time.monotonic() + _WRITING_SECONDS
        while True:
            try:
                return json.loads(self.path.read_text(encoding="utf-8"))
            except ValueError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_PAUSE_SECONDS)


_WHAT_IT_IS = (
    "expected the key_file.json that TorchServe writes into the directory it was started in, "
    "readable only by the user who started it."
)


@dataclass(frozen=True)
class Credentials:
    """Where a client gets its token from: given, read from a key file, or none at all."""

    kind: str
    token: str | None = None
    key_file: KeyFile | None = None

    @classmethod
    def of(
        cls, kind: str, token: str | None, key_file: str | os.PathLike[str] | None
    ) -> Credentials:
        if token is not None and key_file is not None:
            raise ValueError("give either token or key_file, not both")
        return cls(kind, token, None if key_file is None else KeyFile(Path(key_file)))

    @property
    def are_given(self) -> bool:
        """Whether there is a token to send."""
        return self.token is not None or self.key_file is not None

    def headers(self) -> dict[str, str]:
        """The HTTP header (or gRPC metadata) that carries the token; empty without one."""
        token = self.token
        if self.key_file is not None:
            token = getattr(self.key_file, self.kind)
        return {} if token is None else {"authorization": f"Bearer {token}"}
