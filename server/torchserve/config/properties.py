"""Reads and writes TorchServe's config.properties, and finds what in it is unsafe.

A server that is started here has the user's own configuration with a few settings replaced.

The format is that of java.util.Properties: ``key=value`` or ``key: value``, ``#`` and ``!`` start
comments, a backslash escapes and continues lines.
https://docs.oracle.com/en/java/javase/17/docs/api/java.base/java/util/Properties.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from d2serve.client.connection.addresses import is_loopback
from d2serve.client.errors import ServerStartError

CONFIG_PROPERTIES = Path(__file__).resolve().parents[3] / "config.properties"
"""The commented file of safe settings, with metrics.yaml beside it: the rooms lie next to both, in
the repository and in an installation."""

_ADDRESSES = {
    "inference_address": "whoever reaches it and has the token can predict, in clear text.",
    "management_address": "whoever reaches it and has the token can run code on the server.",
    "metrics_address": "it asks for no token.",
    "grpc_inference_address": "whoever reaches it and has the token can predict, in clear text.",
    "grpc_management_address": "whoever reaches it and has the token can run code on the server.",
}
_FOREIGN_URLS = ("http://example.com/m.mar", "https://example.com/m.mar", "file:///tmp/m.mar")
_OPENING = {
    "install_py_dep_per_model": "runs pip for whatever an archive asks for. Remove it: archives "
    "made by d2serve need nothing.",
    "enable_envvars_config": "lets variables of the environment undo every other setting. "
    "Remove it.",
    "use_env_allowed_urls": "lets a variable of the environment replace allowed_urls. Remove it.",
}

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
            f"config.properties, such as d2serve's own: {CONFIG_PROPERTIES}"
        ) from error


def safe_defaults() -> dict[str, str]:
    """What a server gets when the user has no config.properties: the settings of ours."""
    return read_properties(CONFIG_PROPERTIES)


def risks_of(path: Path) -> list[str]:
    """What a config.properties opens that the safe settings keep shut: a sentence each, with what
    to do. Empty for `CONFIG_PROPERTIES`.

    Raises:
        ServerStartError: it cannot be read.
    """
    settings = read_properties(path)
    reachable = [name for name in _ADDRESSES if _is_reachable(settings.get(name))]
    risks = [
        f"{name}={settings[name]} listens beyond this machine: {_ADDRESSES[name]} Set it to "
        f"127.0.0.1 and put a proxy with TLS and its own authentication before it{_or_else(name)}."
        for name in reachable
    ]
    if _is_on(settings, "disable_token_authorization"):
        risks.append(
            "disable_token_authorization=true lets every program of this machine, and web pages in "
            "its browsers, predict and manage models. Remove it."
        )
    open_urls = [url for url in _FOREIGN_URLS if _allows(settings.get("allowed_urls"), url)]
    if open_urls:
        given = (
            f"allowed_urls={settings['allowed_urls']}"
            if "allowed_urls" in settings
            else ("allowed_urls is missing, and TorchServe's default is any URL")
        )
        risks.append(
            f"{given}: a model is code, and one may be fetched from {', '.join(open_urls)}. Set "
            "allowed_urls=(?!) to load from the model store only."
        )
    risks += [f"{name}=true {why}" for name, why in _OPENING.items() if _is_on(settings, name)]
    if settings.get("cors_allowed_origin", "").strip() == "*":
        risks.append(
            "cors_allowed_origin=* lets every web page read the answers. Name the one that may."
        )
    return risks


def _or_else(name: str) -> str:
    """What else to do about an address of predictions."""
    if "inference" not in name:
        return ""
    return ", or have d2serve open and encrypt it: d2serve serve --host, --tls-cert and --tls-key"


def _is_on(settings: Mapping[str, str], name: str) -> bool:
    return settings.get(name, "false").strip().lower() == "true"


def _is_reachable(address: str | None) -> bool:
    if address is None or address.strip().startswith("unix:"):
        return False  # TorchServe's default is this machine only; a socket is a file
    host = address.strip() if "://" in address else f"//{address.strip()}"
    return not is_loopback(host)


def _allows(patterns: str | None, url: str) -> bool:
    if patterns is None:
        return True
    for pattern in patterns.split(","):
        try:
            if re.fullmatch(pattern.strip(), url):
                return True
        except re.error:  # a pattern that Java may take and Python does not
            return True
    return False


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
