"""A real TorchServe as a child process: started, awaited until its models can answer, and stopped
without leaving anything behind. `d2serve serve`, the demo and the end-to-end tests use it.

    with TorchServeProcess({"shapes": "model_store/shapes.mar"}) as server:
        print(server.http.predict("shapes", "image.jpg"))

Each server has a temporary directory and ports of its own, so that any number of them run side by
side, and listens on the loopback address unless told otherwise. It never outlives this process.
"""

from __future__ import annotations

import atexit
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Callable

from d2serve.client.draining import Load
from d2serve.client.errors import ServerStartError
from d2serve.server.archives.digests import checked_store, read_digests
from d2serve.server.archives.model_archives import (
    STORE_NAME,
    ModelArguments,
    PathLike,
    ServedModel,
    require_room,
    resolve_models,
)
from d2serve.server.torchserve import directories, draining, launch
from d2serve.server.torchserve.clients import ReachableServer
from d2serve.server.torchserve.config.listening import listening
from d2serve.server.torchserve.config.ports import Ports
from d2serve.server.torchserve.config.settings import server_settings, write_settings
from d2serve.server.torchserve.java import Java, find_java
from d2serve.server.torchserve.logs.log_diagnosis import ServerLog
from d2serve.server.torchserve.logs.log_reader import LogReader
from d2serve.server.torchserve.renewing import TokenRenewal
from d2serve.server.torchserve.startup import Startup

_NOT_RUNNING = "The server is not running: call start(), or use `with`."


class TorchServeProcess(ReachableServer):
    """A TorchServe of one's own; use it as a context manager, or call start() and stop()."""

    def __init__(
        self,
        models: ModelArguments = (),
        *,
        model_store: PathLike | None = None,
        config: PathLike | None = None,
        overrides: Mapping[str, str] | None = None,
        ports: Ports | None = None,
        host: str | None = None,
        tls_cert: PathLike | None = None,
        tls_key: PathLike | None = None,
        without_tokens: bool = False,
        token_auth: bool | None = None,
        enable_model_api: bool | None = None,
        require_digest: PathLike | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float = 300.0,
        on_progress: Callable[[str], None] | None = None,
        on_log: Callable[[str], None] | None = None,
    ) -> None:
        """
        Args:
            models: ``{"name": "file.mar"}``, or a list of ``"file.mar"`` and ``"name=file.mar"``;
                two versions of a model are two files under one name.
            model_store: the folder models are loaded from, also through the management API;
                None makes a private one that links to ``models``.
            config: a config.properties to start from; None means this package's safe defaults.
            overrides: settings that replace those of ``config``.
            ports: None takes free ones.
            host: the address of this machine at which others may predict, 0.0.0.0 for every one;
                None is this machine only, as managing and metrics always are.
            tls_cert, tls_key: PEM files with which predictions are encrypted; None is clear text.
            without_tokens: whether nobody is asked for a token, at whatever host; models cannot be
                registered then.
            token_auth: False starts without token authorization; None leaves it to ``config``,
                where it is on by default.
            enable_model_api: whether models can be registered and unregistered while it runs;
                None leaves it to ``config``.
            require_digest: a file as `sha256sum` writes it; only archives listed there are
                served, and none can be registered while it runs.
            environment: variables for the server and its workers beside this process's own.
                PYTHONPATH reaches the workers only from here.
            timeout: seconds from the start until every worker is READY.
            on_progress: is called with a few words on what is being waited for.
            on_log: is called with every line TorchServe writes, but for values of metrics, from
                another thread.
        """
        where = listening(ports or Ports.free(), host, tls_cert, tls_key, without_tokens)
        self.models: list[ServedModel] = []
        self._model_arguments = models
        self._model_store = None if model_store is None else Path(model_store)
        self._digests = None if require_digest is None else read_digests(Path(require_digest))
        settings = server_settings(
            None if config is None else Path(config),
            overrides or {},
            where.ports,
            token_auth,
            enable_model_api if self._digests is None else False,
        )
        super().__init__(where, where.applied_to(settings))
        self.renewal = TokenRenewal(self._settings, self.management_address)
        self._environment = dict(environment or {})
        self._timeout = timeout
        self._on_progress = on_progress or (lambda _: None)
        self._on_log = on_log or (lambda _: None)
        self._log = ServerLog()
        self._reader = LogReader(self._log, self._on_log)
        self._directory: directories.ServerDirectory | None = None
        self._process: subprocess.Popen[str] | None = None
        self._is_draining = False

    @property
    def directory(self) -> Path:
        """The server's working directory; it is deleted when the server stops."""
        if self._directory is None:
            raise ServerStartError(_NOT_RUNNING)
        return self._directory.path

    @property
    def log_directory(self) -> Path:
        """Where TorchServe writes model_log.log, ts_log.log and others."""
        return self.directory / "logs"

    @property
    def pid(self) -> int:
        """Process id of the launcher, which is also the id of the server's process group."""
        return self._started().pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def is_draining(self) -> bool:
        """Whether it is about to be stopped: it still answers, but others should be asked."""
        return self._is_draining

    def log_tail(self, lines: int = 40) -> str:
        """The last lines TorchServe wrote; they stay after a stop."""
        return self._log.tail(lines)

    def start(self) -> TorchServeProcess:
        """Start, and return when every worker of every model is READY.

        A server that was stopped, or has ended by itself, may be started again.

        Raises:
            ServerStartError: it runs already, and goes on running; or it cannot start, with
                nothing left running and no files left behind.
        """
        if self.is_running():
            raise ServerStartError(
                f"This server is running already (process {self.pid}). Call stop() before another "
                "start(), or make a second TorchServeProcess: any number run side by side."
            )
        self.stop()  # what one that ended by itself has left
        self._log = ServerLog()
        self._reader = LogReader(self._log, self._on_log)
        launch.require_supported_system()
        launch.require_server_packages()
        java = find_java({**os.environ, **self._environment})
        models = resolve_models(self._model_arguments, self._model_store)
        directories.sweep()  # first: what a killed server left may still hold the ports
        self.ports.require_free(self.listening.host)
        self._directory = directories.make_directory()
        atexit.register(self.stop)
        try:
            self.models, self._store = checked_store(
                models, self._digests, self._model_store, self.directory / STORE_NAME
            )
            require_room(self.models, self.directory)
            self.renewal.start(self.key_file)  # a large model may take longer than a token lives
            self._launch(java, self._store)
            startup = Startup(self.models, self.management, self._log, self._on_progress)
            startup.wait(self._timeout, self.is_running, self._reader)
        except OSError as error:
            directory = self.directory
            self.stop()
            raise directories.unwritable_error(directory, error) from error
        except BaseException:
            self.stop()
            raise
        return self

    def drain(self, seconds: float, on_load: Callable[[Load], None] = lambda _: None) -> bool:
        """Wait until nothing would be lost by stop(): no request waits, and no worker is busy.

        Requests that come meanwhile are answered, and waited for.

        Args:
            seconds: that this may take.
            on_load: is called with what is still to be done, whenever that was asked.

        Returns: False where the time is over, or TorchServe has ended.
        """
        self._is_draining = True
        return draining.drain(self.management, seconds, self.is_running, on_load)

    def stop(self, *, at_once: bool = False) -> None:
        """Stop TorchServe and delete its directory; does nothing if it is stopped already.

        What it has not answered is lost; see drain(). ``at_once`` spares the seconds that it takes
        to end in order, and up to 20 for which it would wait for calls over gRPC.
        """
        self.renewal.stop()
        self._close_clients()
        if self._process is not None and self._directory is not None:
            launch.end(self._process, self._directory.path, at_once=at_once)
            self._reader.wait_for_the_end()
        if self._directory is not None:
            self._directory.remove()
        self._process = self._directory = None
        self._is_draining = False
        atexit.unregister(self.stop)

    def wait(self) -> int:
        """Block until TorchServe ends by itself; return its launcher's exit status."""
        return self._started().wait()

    def __enter__(self) -> TorchServeProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise ServerStartError(_NOT_RUNNING)
        return self._process

    def _launch(self, java: Java, store: Path) -> None:
        environment = launch.server_environment(os.environ, self._environment, java, self.directory)
        settings = {**self._settings, **self.listening.files(self.directory)}
        config = write_settings(settings, self.directory)
        models = [model.argument for model in self.models]
        arguments = launch.arguments(config, store, models)
        self._process = launch.spawn(self.directory, environment, arguments)
        assert self._process.stdout is not None  # it is a pipe
        self._reader.follow(self._process.stdout)
