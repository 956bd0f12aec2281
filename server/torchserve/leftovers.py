"""The processes that a dead server left behind, and how they are ended.

A server that is killed together with the process that watched it leaves its Java, its workers and
whatever those started. They hold ports and memory, so the next start ends them. They are known by
what they run: a user's shell or editor that works in the server's directory, or has one of its
files open, is none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

LAUNCHER_IMPORT = "from ts.model_server import start"
"""A line of the launcher's code, which is an argument of its command line."""
_JAVA_CLASS = "org.pytorch.serve.ModelServer"
_WORKER_SCRIPT = "model_service_worker.py"

_ROUNDS = 5
_SECONDS_TO_DIE = 10.0


def end_leftovers(directory: Path) -> None:
    """Kill what a dead server of ours left: its launcher, its Java, its workers, and the processes
    that these started.

    Args:
        directory: of the server, resolved. Nothing that belongs to another server, and nothing
            that we did not start, is touched.
    """
    import psutil

    for _ in range(_ROUNDS):  # Java may start a worker while its workers are being ended
        left = _leftovers_of(directory)
        if not left:
            return
        for process in left:
            try:
                process.kill()
            except psutil.Error:  # ended meanwhile
                continue
        psutil.wait_procs(left, timeout=_SECONDS_TO_DIE)


def _leftovers_of(directory: Path) -> list[psutil.Process]:
    import psutil

    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if _is_of(process, directory):
                members = [process, *process.children(recursive=True)]
                found.update((member.pid, member) for member in members)
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    return list(found.values())


def _is_of(process: psutil.Process, directory: Path) -> bool:
    command = process.cmdline()
    if not _is_a_servers(command):
        return False
    # Workers that talk over TCP do not name the directory, but work in it, as all of ours do.
    named = any(f"{directory}/" in argument for argument in command)
    return named or Path(process.cwd()).is_relative_to(directory)


def _is_a_servers(command: Sequence[str]) -> bool:
    """Whether this is the command line of TorchServe's Java, a worker or our launcher."""
    return (
        _JAVA_CLASS in command[1:]
        or any(Path(argument).name == _WORKER_SCRIPT for argument in command[1:3])
        or (command[1:2] == ["-c"] and LAUNCHER_IMPORT in command[2])
    )
