"""Tokens: TorchServe asks for one by default, and not for the same one everywhere.

TorchServe writes ``key_file.json`` into the directory it was started in. It holds three keys:
``inference`` (predict, ping), ``management`` (register, describe, scale…) and ``API`` (renews the
other two). The first two expire, after 60 minutes by default. The file is read at every use, so
a token renewed in it is picked up by clients that are already running.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from d2serve.client.errors import AuthorizationError

KEY_FILE_NAME = "key_file.json"


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

    def expired(self, kind: str) -> bool:
        """Whether the file itself says that the time of the key of this kind is over."""
        written = str(self._entry(kind).get("expiration time", ""))
        # Java writes nanoseconds, which fromisoformat does not take; seconds are enough here.
        try:
            moment = datetime.fromisoformat(written[:19]).replace(tzinfo=timezone.utc)
        except ValueError:
            return False
        return datetime.now(timezone.utc) >= moment

    def _key(self, kind: str) -> str:
        key = self._entry(kind).get("key")
        if not isinstance(key, str):
            raise AuthorizationError(f"{self.path} has no key for {kind}: {_WHAT_IT_IS}")
        return key

    def _entry(self, kind: str) -> dict[str, Any]:
        try:
            entry = json.loads(self.path.read_text(encoding="utf-8"))[kind]
        except OSError as error:
            raise AuthorizationError(
                f"The key file {self.path} cannot be read ({error.strerror}): {_WHAT_IT_IS}"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise AuthorizationError(
                f"{self.path} is not a key file, {kind!r} is missing: {_WHAT_IT_IS}"
            ) from error
        return entry if isinstance(entry, dict) else {}


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

    def refusal_error(self) -> AuthorizationError:
        """The error for a token that the server did not take, with the likeliest cause."""
        if self.key_file is not None and self.key_file.expired(self.kind):
            cause = f"the {self.kind} token in {self.key_file.path} has expired"
        elif self.key_file is not None:
            cause = f"{self.key_file.path} belongs to another server or an earlier start"
        elif self.token is not None:
            cause = (
                f"the token is wrong, expired (after 60 minutes by default) or not for {self.kind}"
            )
        else:
            cause = "no token was given, and TorchServe asks for one by default"
        return AuthorizationError(
            f"The server refused the {self.kind} token: {cause}. Give the server's key_file.json "
            "(it is in the directory TorchServe was started in); renew an expired token with "
            f"`curl 'http://127.0.0.1:8081/token?type={self.kind}' -H 'Authorization: Bearer "
            "<API key of key_file.json>'`, which rewrites that file."
        )
