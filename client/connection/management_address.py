"""Where the management API of a client's server is, for errors that say what to ask there.

A client of the inference address is not told. But beside the key file of a server that d2serve
started lies the config.properties that it runs with, and that names the address.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from d2serve.client.connection.addresses import parse_address
from d2serve.client.errors import InvalidInput

if TYPE_CHECKING:
    from d2serve.client.connection.settings import Connection

DEFAULT_MANAGEMENT_ADDRESS = "http://127.0.0.1:8081"
DEFAULT_IN_WORDS = f"TorchServe's own default is {DEFAULT_MANAGEMENT_ADDRESS}"

_CONFIG_FILE = "config.properties"
_SETTING = re.compile(r"^[ \t]*management_address[ \t]*[=:][ \t]*(\S+)", re.MULTILINE)


def management_address(connection: Connection) -> str | None:
    """The URL of the server's management API, or None where it cannot be known."""
    if connection.credentials.kind == "management":
        return connection.url
    key_file = connection.credentials.key_file
    if key_file is None:
        return None
    try:
        # `d2serve serve` links to its key file from the directory that it was started in.
        config = key_file.path.resolve().with_name(_CONFIG_FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    found = _SETTING.findall(config)
    if not found or "://" not in found[-1]:  # a socket of TorchServe's is no address for others
        return None
    try:  # of several the last one counts, and Java allows an escaped colon
        return parse_address(found[-1].replace("\\", "")).geturl()
    except InvalidInput:
        return None


def management_in_words(connection: Connection) -> str:
    """The same inside a sentence: ``the management address …``."""
    known = management_address(connection)
    return f"the management address {known or f'({DEFAULT_IN_WORDS})'}"
