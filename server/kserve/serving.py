"""``d2serve kserve``: archives on KServe's server, in one process or several."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from d2serve.client.errors import ServerStartError
from d2serve.handlers.cores import available_cores, threads_wanted
from d2serve.server.kserve.archives import Archive, find_archives
from d2serve.server.kserve.workers import METRICS_FOLDER, run_workers

HELP = MappingProxyType(
    {
        "models": "Archives, folders that archives were unpacked to, or folders of archives. Of "
        "two versions of a model, the first answers where a request names none.",
        "name": "Serve the model under this name, instead of its archive's own: KServe asks for "
        "that of the InferenceService.",
        "host": "Address of this machine to listen on; 0.0.0.0 is every one.",
        "http_port": "Port of REST, health and metrics.",
        "grpc_port": "Port of gRPC; 0 is none.",
        "workers": "Processes, each with its own copy of the model and its share of the cores.",
        "device": "Where the models run: cpu, cuda or cuda:N.",
        "drain_seconds": "Seconds for which Ctrl-C and SIGTERM wait until all that was asked is "
        "answered. A second one stops at once.",
    }
)
"""What each setting means, by its name."""


_LOG_LINE = "%(asctime)s %(process)d %(levelname)s %(message)s"


@dataclass(frozen=True)
class Settings:
    """How archives are served; ``HELP`` says what each is."""

    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = 8081
    workers: int = 1
    device: str = "cpu"
    drain_seconds: int = 30


def serve(
    models: Sequence[str],
    name: str | None,
    settings: Settings,
    say: Callable[[str], None],
) -> None:
    """Serve archives until SIGTERM or Ctrl-C.

    Args:
        models, name: as ``find_archives`` takes them.
        say: gets what the user should know, in sentences.

    Raises:
        ServerStartError: they cannot be served here; the message says why.
        ArchiveRefused: an archive is damaged or none.
    """
    archives = find_archives(models, name)
    with _listening(settings) as listening, _metrics_of_all(settings):
        say("Loading " + ", ".join(f"{each.name} {each.version}" for each in archives) + ".")
        if settings.workers == 1:
            run(archives, settings, listening, say)
        else:
            run_workers(settings.workers, _run_worker, (archives, settings, listening), say)


def run(
    archives: Sequence[Archive],
    settings: Settings,
    listening: socket.socket,
    say: Callable[[str], None],
) -> None:
    """Load archives and serve them, in this process.

    Raises:
        ServerStartError: they cannot be served here.
    """
    # KServe's server is slow to import, and reads a variable that is set only now.
    from d2serve.server.kserve.model_server import ArchiveServer
    from d2serve.server.kserve.models import open_models

    _set_up_log()
    threads = threads_wanted() or max(1, available_cores() // settings.workers)
    opened = open_models(archives, threads, settings.device)
    server = ArchiveServer(
        listening, settings.grpc_port, settings.drain_seconds, shared=settings.workers > 1
    )
    port = listening.getsockname()[1]
    told = (
        f"Serving on http://{settings.host}:{port}"
        + (f" and, for gRPC, {settings.host}:{settings.grpc_port}" if settings.grpc_port else "")
        + f", with {threads} thread{'s' if threads > 1 else ''}. Ctrl-C stops."
    )
    server.start(opened, lambda: say(told))


def _set_up_log() -> None:
    """A line for each answer is the service's; KServe's and uvicorn's say it again."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format=_LOG_LINE)
    for name in ("kserve", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")


def tell(text: str) -> None:
    """Write a sentence, where nothing shows it better."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _run_worker(archives: Sequence[Archive], settings: Settings, listening: socket.socket) -> None:
    run(archives, settings, listening, tell)


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """The socket of HTTP, which all processes share: whoever is free takes the next connection."""
    host = settings.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, settings.http_port), family=family, backlog=2048)
    except OSError as error:
        raise ServerStartError(
            f"Nothing can listen on {host}, port {settings.http_port} ({error.strerror or error}): "
            "most likely another server does. Give another --http-port."
        ) from error
    with made:
        yield made


@contextlib.contextmanager
def _metrics_of_all(settings: Settings) -> Iterator[None]:
    """A folder in which the processes' metrics meet."""
    if settings.workers == 1 or METRICS_FOLDER in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="d2serve-metrics-") as folder:
        os.environ[METRICS_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[METRICS_FOLDER]
