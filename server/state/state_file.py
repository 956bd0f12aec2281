"""The file that ``d2serve serve --state`` keeps: what was registered when it was last written.

It is written whole beside its place, and put there in one step: a crash leaves the state before or
the state after, never half of one.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from d2serve.client.errors import ServerStartError
from d2serve.client.whole_files import written_whole
from d2serve.server.state.registrations import Registration

SCHEMA = 1
_SCHEMA_KEY, _GIVEN, _MODELS = "d2serve_state", "given", "models"


@dataclass(frozen=True)
class State:
    """What a server served."""

    registrations: tuple[Registration, ...]
    """The default version of each model before its others."""
    given: frozenset[tuple[str, str]]
    """Name and version of what its command named; one that it did not name is new to the next."""


def read_state(path: Path) -> State | None:
    """The state in a file; None where there is no file yet.

    Raises:
        ServerStartError: it cannot be read, or is no state.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ServerStartError(
            f"The state {path} cannot be read ({reason}): expected a file that `d2serve serve "
            "--state` wrote, or none yet."
        ) from error
    try:
        return _parsed(json.loads(text))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServerStartError(
            f"{path} is no state of this d2serve ({type(error).__name__}: {error}): expected a "
            f"file that `d2serve serve --state` wrote, of {_SCHEMA_KEY} {SCHEMA}. Move it away to "
            "start with what the command names."
        ) from error


def require_writable(path: Path) -> None:
    """Make sure that a state can be written, before the time that a start takes.

    Raises:
        ServerStartError: it cannot.
    """
    try:
        with tempfile.TemporaryFile(dir=path.parent):  # which asks the file system itself
            pass
    except OSError as error:
        raise ServerStartError(unwritable(path, error)) from error


def unwritable(path: Path, error: OSError) -> str:
    """What is wrong, and what follows."""
    return (
        f"The state {path} cannot be written ({error.strerror or error}): expected a file in a "
        "folder that you may write and that has room. What is registered would be gone after a "
        "restart."
    )


def write_state(path: Path, state: State) -> None:
    """Put a state into its file, in one step.

    Raises:
        OSError: it cannot be written; what was there is untouched.
    """
    content = {
        _SCHEMA_KEY: SCHEMA,
        _GIVEN: sorted(state.given),
        _MODELS: [{**asdict(each), "archive": str(each.archive)} for each in state.registrations],
    }
    with written_whole(path, mode=0o600) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")


def _parsed(found: Any) -> State:
    if found[_SCHEMA_KEY] != SCHEMA:
        raise ValueError(f"{_SCHEMA_KEY} is {found[_SCHEMA_KEY]!r}")
    return State(
        tuple(_registration(each) for each in found[_MODELS]),
        frozenset((str(name), str(version)) for name, version in found[_GIVEN]),
    )


def _registration(found: dict[str, Any]) -> Registration:
    made = Registration(**{**found, "archive": Path(found["archive"])})
    for name, value in asdict(made).items():
        expected = {"str": str, "bool": bool, "Path": Path, "int": int}[
            str(Registration.__annotations__[name])
        ]
        if not isinstance(value, expected):
            raise TypeError(f"{name} is {value!r}")
    return made
