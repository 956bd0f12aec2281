"""Looks at the processes of a running TorchServe."""

from __future__ import annotations

from d2serve.client.errors import ServerStartError
from d2serve.server.torchserve.launch import java_pid
from d2serve.server.torchserve.process import TorchServeProcess


def dead_process(server: TorchServeProcess) -> str | None:
    """Which process of a server that was started has ended; None while all run. Workers are not
    among them: TorchServe starts them again."""
    import psutil

    if not server.is_running():
        return "TorchServe's launcher has ended"
    try:
        pid = java_pid(server.directory)
        if pid is None or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return "TorchServe's Java has ended"
    except (psutil.NoSuchProcess, ServerStartError):  # the latter: it is being stopped
        return "TorchServe's Java has ended"
    return None
