"""The packages of this interpreter's environment, and pip, which changes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

_CONFLICT = "The conflict is caused by:"


class PipError(Exception):
    """pip failed; the text is what it printed of the reason."""


def normalised(name: str) -> str:
    """A distribution's name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    """Version by normalised name."""
    importlib_path = metadata.distributions()
    return {normalised(each.metadata["Name"]): each.version for each in importlib_path}


def pip(*arguments: str) -> str:
    """Run pip; returns what it prints.

    Raises:
        PipError: it failed.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PipError(_reason(done.stdout + done.stderr))
    return done.stdout


def would_install(*arguments: str) -> dict[str, str]:
    """Version by normalised name of what `pip install` with these arguments would bring.

    Raises:
        PipError: they cannot be installed together.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip("install", "--dry-run", "--report", str(report), *arguments)
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {normalised(each["metadata"]["name"]): each["metadata"]["version"] for each in items}


def broken_requirements() -> set[str]:
    """A line for each installed package whose own requirements are not met (`pip check`)."""
    try:
        pip("check")
    except PipError as error:
        return set(str(error).splitlines())
    return set()


def _reason(output: str) -> str:
    """Of what pip prints, which packages do not go together; otherwise its last lines."""
    lines = [line.rstrip() for line in output.splitlines()]
    if _CONFLICT in lines:
        conflict = lines[lines.index(_CONFLICT) + 1 :]
        return "\n".join(conflict[: conflict.index("")] if "" in conflict else conflict)
    noise = ("[notice]", "WARNING: Location", "Looking in ")
    return "\n".join([each for each in lines if each and not each.startswith(noise)][-10:])
