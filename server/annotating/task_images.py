"""The images of Label Studio's tasks, from where the tasks say that they are.

A task comes from whoever may reach this backend, and names any address it likes. So this machine
asks only Label Studio and the hosts that its operator named, also where one redirects to another,
reads files of one folder only, and sends the API key to Label Studio alone.
"""

from __future__ import annotations

import base64
import binascii
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote_to_bytes, urljoin, urlsplit

import httpx

from d2serve.client.errors import InvalidInput

_LOCAL = "/data/local-files/"
_UPLOADED = ("/data/upload/", "/upload/", "upload/", "data/upload/")
_CLOUD = ("s3://", "gs://", "azure-blob://")
_SECONDS = 30.0
_SECONDS_OF_ACCESS = 60.0
"""Of the five minutes that an access token lasts."""
_MOST_REDIRECTS = 4
_PORTS = {"http": 80, "https": 443}


class TaskImages:
    """Reads images by what tasks have for them. May be used from several threads."""

    def __init__(
        self,
        most_bytes: int,
        *,
        label_studio: str | None = None,
        api_key: str | None = None,
        hosts: Sequence[str] = (),
        folder: Path | None = None,
    ) -> None:
        """
        Args:
            most_bytes: of an image.
            label_studio: its address, as http://host:8080; None where there is none to ask.
            api_key: of one of its users, a legacy token or a personal access token.
            hosts: others to ask, as ``host`` or ``host:port``: those of presigned links.
            folder: what Label Studio has as LOCAL_FILES_DOCUMENT_ROOT, if this machine has it too.

        Raises:
            InvalidInput: the address is none.
        """
        if label_studio is not None and urlsplit(label_studio).scheme not in _PORTS:
            raise InvalidInput(
                f"Got {label_studio!r} for Label Studio, expected an address with its scheme: "
                "http://127.0.0.1:8080."
            )
        self._label_studio = label_studio and label_studio.rstrip("/")
        self._api_key = api_key
        self._hosts = frozenset(host.lower() for host in hosts)
        self._folder = None if folder is None else folder.resolve()
        self._most_bytes = most_bytes
        self._access = -math.inf, ""
        self._http = httpx.Client(timeout=_SECONDS, follow_redirects=False, trust_env=False)

    def read(self, where: Any, task_id: Any = None) -> bytes:
        """The bytes of an image file.

        Args:
            where: a ``data:`` URI; a path of Label Studio's (``/data/upload/…``,
                ``/data/local-files/?d=…``), ``s3://…`` of a storage that is connected to it, or an
                address of a host that may be asked.
            task_id: by which Label Studio signs a link to a storage.

        Raises:
            InvalidInput: it cannot be read, or must not be.
        """
        if not isinstance(where, str) or not where:
            raise InvalidInput(f"The task has {where!r} for its image, expected text: an address.")
        if where.startswith("data:"):
            return self._checked(_of_data_uri(where), "a data: URI")
        if where.startswith(_LOCAL) and self._folder is not None:
            return self._of_file(where)
        if where.startswith(_CLOUD):
            link = base64.urlsafe_b64encode(where.encode()).decode()
            path = f"/tasks/{quote(str(task_id), safe='')}/presign/?fileuri={quote(link)}"
            return self._of_address(self._at_label_studio(path))
        if where.startswith(_UPLOADED):
            return self._of_upload(where)
        if where.startswith("/"):
            return self._of_address(self._at_label_studio(where))
        return self._of_address(where)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _of_file(self, where: str) -> bytes:
        assert self._folder is not None
        named = (parse_qs(urlsplit(where).query).get("d") or [""])[-1]
        try:
            file = (self._folder / named.lstrip("/")).resolve()
            if not file.is_relative_to(self._folder):
                raise InvalidInput(f"{where} leaves the folder of local files, {self._folder}.")
            with file.open("rb") as opened:
                return self._checked(opened.read(self._most_bytes + 1), where)
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"{where} cannot be read: {getattr(error, 'strerror', None) or error}. Expected a "
                f"file in {self._folder}, which was given as --local-files."
            ) from error

    def _of_upload(self, where: str) -> bytes:
        """As Label Studio keeps it: on its own disk, or in a storage behind another path."""
        path = where.lstrip("/").removeprefix("data/")
        try:
            return self._of_address(self._at_label_studio(f"/data/{path}"))
        except _NotThere:
            stored = f"/storage-data/uploaded/?filepath={quote(path)}"
            return self._of_address(self._at_label_studio(stored))

    def _at_label_studio(self, path: str) -> str:
        if self._label_studio is None:
            raise InvalidInput(
                f"The image {path} is at Label Studio, whose address is not known here. Start "
                "`d2serve label-studio` with --label-studio http://…, and its API key in "
                "LABEL_STUDIO_API_KEY."
            )
        return f"{self._label_studio}{path}"

    def _of_address(self, address: str) -> bytes:
        for _ in range(_MOST_REDIRECTS):
            is_label_studio = self._require_allowed(address)
            headers = self._authorization() if is_label_studio else {}
            try:
                with self._http.stream("GET", address, headers=headers) as response:
                    if response.is_redirect:
                        address = urljoin(address, response.headers.get("location", ""))
                        continue
                    return self._content(address, response)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise InvalidInput(
                    f"The image {_shown(address)} did not come: {error or type(error).__name__}."
                ) from error
        raise InvalidInput(f"The image {_shown(address)} is behind too many redirections.")

    def _content(self, address: str, response: httpx.Response) -> bytes:
        if response.status_code != 200:
            kind = _NotThere if response.status_code == 404 else InvalidInput
            raise kind(
                f"The image {_shown(address)} was answered with HTTP {response.status_code}. Does "
                "LABEL_STUDIO_API_KEY hold the key of a user who may see the task, and is the "
                "link still valid?"
            )
        content = bytearray()
        for part in response.iter_bytes():
            content += part
            if len(content) > self._most_bytes:
                raise self._too_large(_shown(address))
        return self._checked(bytes(content), _shown(address))

    def _require_allowed(self, address: str) -> bool:
        """Whether it is Label Studio's; raises InvalidInput where nobody allowed it."""
        host = _host(address)
        if self._label_studio is not None and host == _host(self._label_studio):
            return urlsplit(address).scheme == urlsplit(self._label_studio).scheme
        if host is None or not {host, host.rpartition(":")[0]} & self._hosts:
            raise InvalidInput(
                f"The image {_shown(address)} is at {host or 'no host'}, which this backend may "
                f"not ask. If it may, start `d2serve label-studio` with --image-host "
                f"{(host or 'HOST').rpartition(':')[0] or host}."
            )
        return False

    def _authorization(self) -> dict[str, str]:
        key = self._api_key
        if not key:
            return {}
        if key.count(".") != 2:
            return {"Authorization": f"Token {key}"}
        # A personal access token is exchanged for one that lasts some minutes.
        made_at, access = self._access
        if time.monotonic() - made_at > _SECONDS_OF_ACCESS:
            access = self._exchanged(key)
            self._access = time.monotonic(), access
        return {"Authorization": f"Bearer {access}"}

    def _exchanged(self, key: str) -> str:
        address = f"{self._label_studio}/api/token/refresh"
        try:
            answer = self._http.post(address, json={"refresh": key}).raise_for_status()
            return str(answer.json()["access"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{self._label_studio} does not take the personal access token in "
                f"LABEL_STUDIO_API_KEY ({error}). Make a new one there, under Account & Settings."
            ) from error

    def _checked(self, content: bytes, what: str) -> bytes:
        if not content:
            raise InvalidInput(f"The image {what} is empty.")
        if len(content) > self._most_bytes:
            raise self._too_large(what)
        return content

    def _too_large(self, what: str) -> InvalidInput:
        return InvalidInput(
            f"The image {what} has more than {self._most_bytes:,} bytes, which is the most that "
            "the model takes."
        )


class _NotThere(InvalidInput):
    """404."""


def _of_data_uri(where: str) -> bytes:
    head, comma, data = where.partition(",")
    try:
        if not comma:
            raise ValueError("it has no comma")
        if head.endswith(";base64"):
            return base64.b64decode(data, validate=True)
        return unquote_to_bytes(data)
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(f"The image is a data: URI that cannot be read: {error}.") from error


def _host(address: str) -> str | None:
    """``host:port``, with the port of its scheme; None of what is no address of HTTP."""
    try:
        parts = urlsplit(address)
        if parts.scheme not in _PORTS or not parts.hostname:
            return None
        return f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
    except ValueError:
        return None


def _shown(address: str) -> str:
    """Without its query, which signs a link."""
    return address.partition("?")[0][:200]
