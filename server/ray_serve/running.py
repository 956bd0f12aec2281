"""Starts archives on Ray Serve from one process, and ends them without losing an answer.

Each model is an application of its own, and so is the ingress. It is ended first: it then takes
nothing more, and the models are there until it has answered all that it took.

Ray reads its environment when it is imported, so that is done late.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

from d2serve.server.ray_serve.settings import ServedModel, Settings

_log = logging.getLogger(__name__)

INGRESS_APPLICATION = "d2serve"
_QUIETLY: dict[str, Any] = {
    "namespace": "serve",
    "log_to_driver": False,
    "logging_level": logging.WARNING,
}


class NotServed(Exception):
    """Ray, or Ray Serve, does not do what is asked; the message says why, and what to do."""


class RayServing:
    """Archives on Ray Serve: on a Ray of this machine that is started for it, or on a cluster."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        settings: Settings,
        host: str,
        port: int,
        ray_address: str | None = None,
    ) -> None:
        """
        Args:
            host, port: where HTTP is answered. A cluster on which Ray Serve runs already has its
                own.
            ray_address: of a cluster, as ``ray.init`` takes it; None starts a Ray of its own.
        """
        self._models = models
        self._settings = settings
        self._host, self._port = host, port
        self._ray_address = ray_address
        self._started: list[str] = []

    def start(self, on_progress: Callable[[str], None] = lambda _: None) -> None:
        """Return when every model answers.

        Args:
            on_progress: is told what is waited for.

        Raises:
            NotServed: it does not.
            ImportError: Ray is not installed.
        """
        try:
            on_progress("starting Ray" if self._ray_address is None else "connecting to Ray")
            self._connect()
            self._check_room()
            self._deploy(on_progress)
        except BaseException:
            self.stop()
            raise

    def _deploy(self, on_progress: Callable[[str], None]) -> None:
        from ray import serve
        from ray.serve.config import HTTPOptions

        from d2serve.server.ray_serve.deployments import ingress_deployment, model_deployment

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(http_options=HTTPOptions(host=self._host, port=self._port))
        handles = {}
        for model in self._models:
            on_progress(f"loading {model.name} {model.version}")
            deployment = model_deployment(model, self._settings)
            handles[model.key] = self._run(deployment, _application_of(model), None)
        on_progress("starting the ingress")
        ingress = ingress_deployment(self._models, handles, self._settings)
        self._run(ingress, INGRESS_APPLICATION, "/")

    def stop(self) -> None:
        """Answer what was taken, within the settings' seconds, and end what was started."""
        import ray
        from ray import serve
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        try:
            for application in reversed(self._started):
                serve.delete(application)
        except (RayError, RayServeException) as error:  # it is gone already
            _log.warning("d2serve: %s", _last_line(error))
        finally:
            self._started.clear()
            ray.shutdown()

    def is_alive(self) -> bool:
        """Whether Ray Serve still has the applications; a cluster may end, or lose them."""
        from ray import serve
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        try:
            found = serve.status().applications
        except (RayError, RayServeException):
            return False
        return all(name in found for name in self._started)

    def _connect(self) -> None:
        stops = signal.getsignal(signal.SIGTERM)
        try:
            self._init()
        finally:  # Ray's own ends the process at once
            signal.signal(signal.SIGTERM, stops)

    def _init(self) -> None:
        if self._ray_address is None:
            _check_port(self._host, self._port)
            _keep_to_ourselves()
        import ray

        if self._ray_address is not None:
            try:
                ray.init(self._ray_address, **_QUIETLY)
            except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                raise NotServed(
                    f"There is no Ray at {self._ray_address} ({_last_line(error)}). Expected "
                    "`auto` on a machine of the cluster, ADDRESS:6379 or ray://ADDRESS:10001; "
                    "where a cluster asks for a token, RAY_AUTH_TOKEN has to say it."
                ) from error
            return
        ray.init("local", include_dashboard=False, **_QUIETLY)

    def _check_room(self) -> None:
        """Refuse what would wait for a machine that is not there.

        Raises:
            NotServed: the cluster has too few CPUs or GPUs for the fewest replicas. One that grows
                by itself is not judged.
        """
        import ray

        if self._ray_address is not None:
            return
        count = self._settings.replicas.least * len(self._models)
        wanted = {
            "CPU": count * self._settings.cpus_per_replica,
            "GPU": count * self._settings.gpus_per_replica,
        }
        there = ray.cluster_resources()
        for kind, amount in wanted.items():
            if amount > there.get(kind, 0):
                raise NotServed(
                    f"{count} replicas need {amount:g} {kind}s, and this machine has "
                    f"{there.get(kind, 0):g}. Ask for fewer --replicas, or for less of a "
                    f"--{kind.lower()}s-per-replica, or name a larger cluster with --ray-address."
                )

    def _run(self, deployment: Any, name: str, route: str | None) -> Any:
        from ray import serve

        self._started.append(name)
        try:
            return serve.run(deployment, name=name, route_prefix=route)
        except RuntimeError as error:
            said = serve.status().applications.get(name)
            told = [each.message for each in said.deployments.values()] if said else []
            reason = next((each for each in told if each), str(error))
            raise NotServed(
                f"Ray Serve did not start {name}: {_reason(reason)} Its logs are in "
                "/tmp/ray/session_latest/logs/serve."
            ) from error


def _application_of(model: ServedModel) -> str:
    return f"{INGRESS_APPLICATION}-{model.deployment}"


def _keep_to_ourselves() -> None:
    """Make a Ray that tells nobody of itself, and that no other user of the machine can use.

    Its token stands in the environment of our own processes; Ray would write one into the user's
    home.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _check_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise NotServed(
            f"Nothing can listen at {host}:{port} ({error.strerror or error}). Is another server "
            "running there? Name another --port, or an address of this machine as --host."
        ) from None


def _reason(message: str) -> str:
    """What a replica died of, in a line: Ray's message is a whole traceback."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("d2serve.") or "Error" in line.split(":")[0]]
    found = (ours or lines or ["no reason was told."])[-1]
    return found.partition(": ")[2] if found.startswith("d2serve.") else found


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
