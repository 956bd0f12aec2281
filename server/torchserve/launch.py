"""One TorchServe child process: its environment, its command line, its start and its end.

What it serves is decided by process.py, and when it is ready by startup.py.

TorchServe keeps a pid file in TMPDIR (so there is one instance per TMPDIR), unpacks archives and
opens its workers' sockets in Java's temporary directory (TEMP), and writes logs/ and key_file.json
into its working directory: each server gets a directory of its own for all of it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from d2serve.client.errors import ServerStartError
from d2serve.server.torchserve.java import Java
from d2serve.server.torchserve.leftovers import LAUNCHER_IMPORT, end_leftovers

_GRACE_SECONDS = 20.0
_AFTER_KILL_SECONDS = 5.0
_POLL_SECONDS = 0.05
_NOT_INHERITED = (
    "PYTHONPATH",  # would come before the handler library inside the archive
    "TS_CONFIG_FILE",  # would silently replace --ts-config
    "LOG_LOCATION",
    "METRICS_LOCATION",
)
_LAUNCHER = f"""
import os, signal, threading
def end_with_the_parent():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_with_the_parent, daemon=True).start()
{LAUNCHER_IMPORT}
start()
"""
"""What the `torchserve` script does, and a thread that ends the whole process group when standard
input, a pipe held by the parent, is closed: by the system, if the parent dies in whatever way."""


def require_supported_system() -> None:
    """Raise ServerStartError on Windows: process groups and file locks of POSIX are what keeps a
    server from outliving its owner."""
    if importlib.util.find_spec("fcntl") is None:
        raise ServerStartError(
            f"d2serve starts TorchServe on Linux and macOS only, and this is {sys.platform}. Use "
            "Linux (WSL on Windows), or start TorchServe itself with config.properties. The other "
            "commands, `d2serve predict` among them, and the Python clients work here."
        )


def require_server_packages() -> None:
    """Raise ServerStartError if TorchServe, or what its workers die without, is not installed."""
    for module, package, why in (
        ("ts", "torchserve", "the server itself"),
        ("psutil", "psutil", "TorchServe's launcher imports it"),
        ("yaml", "PyYAML", "TorchServe's workers die without it and it does not install it"),
    ):
        if importlib.util.find_spec(module) is None:
            raise ServerStartError(
                f"{package} is not installed for {sys.executable} ({why}): "
                f"`pip install {package}`, or `pip install 'd2serve[server]'` for all of them."
            )


def server_environment(
    base: Mapping[str, str], extra: Mapping[str, str], java: Java, directory: Path
) -> dict[str, str]:
    """The variables for TorchServe and its workers.

    The folder of this interpreter comes first on PATH, so that a virtual environment need not be
    activated (TorchServe itself starts workers with the interpreter it was started with).
    """
    inherited = {key: value for key, value in base.items() if key not in _NOT_INHERITED}
    environment = java.environment({**inherited, **extra})
    scripts = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join(filter(None, [scripts, environment.get("PATH")]))
    temporary = str(directory / "tmp")
    environment.update({"TMPDIR": temporary, "TEMP": temporary})
    return environment


def arguments(config: Path, store: Path, models: Sequence[str]) -> list[str]:
    """What `torchserve` is called with.

    Args:
        config: its config.properties.
        store: its model store.
        models: ``NAME=FILE.mar`` for each model to load at the start.
    """
    loaded = ["--models", *models] if models else []
    return ["--ts-config", str(config), "--model-store", str(store), *loaded]


def spawn(
    directory: Path, environment: Mapping[str, str], arguments: list[str]
) -> subprocess.Popen[str]:
    """Start TorchServe in the foreground, as the leader of a session and process group."""
    return subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, "--start", "--foreground", "--ncs", *arguments],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        bufsize=1,
    )


def end(process: subprocess.Popen[str], directory: Path, *, at_once: bool = False) -> None:
    """Stop TorchServe: unless ``at_once``, with SIGTERM first; then the whole process group by
    force, so that no Java and no worker is left."""
    if process.poll() is None:
        if not at_once:
            _ask_java_to_stop(process, directory)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _wait_for_group(process.pid)
    else:  # the number of a group that ended earlier may be another's by now
        end_leftovers(directory)
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _ask_java_to_stop(process: subprocess.Popen[str], directory: Path) -> None:
    java = java_pid(directory)
    if java is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(java, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_GRACE_SECONDS)


def java_pid(directory: Path) -> int | None:
    try:
        return int((directory / "tmp" / ".model_server.pid").read_text())
    except (OSError, ValueError):
        return None


def _wait_for_group(group: int) -> None:
    deadline = time.monotonic() + _AFTER_KILL_SECONDS
    while time.monotonic() < deadline:
        # Java and the workers become children of a container's first process, which this one may
        # be, when the launcher ends. They are of the group until they have been waited for.
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-group, os.WNOHANG) != (0, 0):
                pass
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(_POLL_SECONDS)
