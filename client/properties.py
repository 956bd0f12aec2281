"""Read and write TorchServe's config.properties, because a server started by this package is
the user's own configuration with a few settings replaced: ports of its own, loopback addresses.

The format is that of java.util.Properties: ``key=value`` or ``key: value``, ``#`` and ``!`` start
comments, a backslash escapes and continues lines.
https://docs.oracle.com/en/java/javase/17/docs/api/java.base/java/util/Properties.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from d2serve.client.errors import ServerStartError

SAFE_DEFAULTS: dict[str, str] = {
    "inference_address": "http://127.0.0.1:8080",
    "management_address": "http://127.0.0.1:8081",
    "metrics_address": "http://127.0.0.1:8082",
    "grpc_inference_address": "127.0.0.1",
    "grpc_management_address": "127.0.0.1",
    "grpc_inference_port": "7070",
    "grpc_management_port": "7071",
    "disable_token_authorization": "false",
    "enable_model_api": "true",
    "allowed_urls": "(?!)",
    "install_py_dep_per_model": "false",
    "enable_envvars_config": "false",
    "max_request_size": "67108864",
}
"""What a server gets when the user has no config.properties: the same settings as the commented
file in the root of the repository, which says why of each (a test keeps the two equal)."""

_UNESCAPED_SEPARATOR = re.compile(r"(?<!\\)(?:\s*[=:]\s*|\s+)")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_NAMED_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse_properties(text: str) -> dict[str, str]:
    """The settings of a .properties text; as in Java, the last of several equal keys counts."""
    settings: dict[str, str] = {}
    for line in _logical_lines(text):
        key, _, value = _split(line)
        settings[_unescape(key)] = _unescape(value)
    return settings


def read_properties(path: Path) -> dict[str, str]:
    """The settings of a config.properties file."""
    try:
        return parse_properties(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ServerStartError(
            f"The configuration {path} cannot be read ({reason}): expected a TorchServe "
            "config.properties, such as the one in the root of d2serve's repository."
        ) from error


def format_properties(settings: Mapping[str, str]) -> str:
    """A .properties text that Java reads back as ``settings``."""
    return "".join(f"{key}={_escape(value)}\n" for key, value in settings.items())


def _logical_lines(text: str) -> list[str]:
    lines: list[str] = []
    unfinished = ""
    for physical in text.splitlines():
        line = physical.lstrip()
        if not unfinished and (not line or line[0] in "#!"):
            continue
        line = unfinished + line
        trailing_backslashes = len(line) - len(line.rstrip("\\"))
        if trailing_backslashes % 2:
            unfinished = line[:-1]
            continue
        unfinished = ""
        lines.append(line)
    return [*lines, unfinished] if unfinished else lines


def _split(line: str) -> tuple[str, str, str]:
    match = _UNESCAPED_SEPARATOR.search(line)
    if match is None:
        return line, "", ""
    return line[: match.start()], match.group(), line[match.end() :]


def _unescape(text: str) -> str:
    def plain(match: re.Match[str]) -> str:
        escaped = match.group(1)
        if len(escaped) == 5:
            return chr(int(escaped[1:], 16))
        return _NAMED_ESCAPES.get(escaped, escaped)

    unescaped = _ESCAPE.sub(plain, text)
    # Java writes a character beyond U+FFFF as two escapes, the halves of a UTF-16 pair.
    return unescaped.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _escape(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    escaped = escaped.replace("\t", "\\t")
    leading = len(escaped) - len(escaped.lstrip(" "))
    escaped = "\\ " * leading + escaped[leading:]
    return "".join(c if " " <= c <= "~" else _unicode_escape(c) for c in escaped)


def _unicode_escape(character: str) -> str:
    utf16 = character.encode("utf-16-be")
    return "".join(f"\\u{utf16[i]:02x}{utf16[i + 1]:02x}" for i in range(0, len(utf16), 2))
