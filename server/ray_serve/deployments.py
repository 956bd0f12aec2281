"""What Ray Serve is told of a model and of the ingress: how many, where, and how they end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve

from d2serve.handlers.runtimes.batching import BatchPlanner
from d2serve.server.ray_serve.ingress import Ingress
from d2serve.server.ray_serve.replicas import ModelReplica
from d2serve.server.ray_serve.settings import ServedModel, Settings, body_bytes

INGRESS = "Ingress"

_IN_REPLICA = 4
"""Requests in a replica: one is answered, the others are there when it is done. What waits beyond
that waits in the ingress, where it goes to whichever replica is free first."""
_WAITING = 100
"""Requests that wait in an ingress for a model, as job_queue_size of TorchServe."""
_IN_INGRESS = 1000
"""Requests in an ingress, of which most are still on their way."""


def model_deployment(model: ServedModel, settings: Settings) -> Any:
    """The application of one model, which has no address of its own."""
    on_gpu = settings.gpus_per_replica > 0
    batches = BatchPlanner(model.batching, model.spec.dynamic_batch, on_gpu).together
    together = settings.batch_size if batches else 1
    in_replica = max(_IN_REPLICA, 2 * together)
    replicas = settings.replicas
    number: dict[str, Any] = {"num_replicas": replicas.least}
    if replicas.least < replicas.most:
        scaling = {
            "min_replicas": replicas.least,
            "max_replicas": replicas.most,
            "target_ongoing_requests": in_replica / 2,
        }
        number = {"autoscaling_config": scaling}
    deployment = serve.deployment(ModelReplica).options(
        name=model.deployment,
        max_ongoing_requests=in_replica,
        max_queued_requests=_WAITING,
        graceful_shutdown_timeout_s=settings.drain_seconds,
        graceful_shutdown_wait_loop_s=0.5,
        ray_actor_options={
            "num_cpus": settings.cpus_per_replica,
            "num_gpus": settings.gpus_per_replica,
        },
        **number,
    )
    return deployment.bind(
        str(model.archive), model.name, model.version, model.handling, settings.batch_size
    )


def ingress_deployment(
    models: Sequence[ServedModel], handles: Mapping[str, Any], settings: Settings
) -> Any:
    """The application that has the address.

    Args:
        handles: of the models' deployments, or what they are bound to, by their keys.
    """
    deployment = serve.deployment(Ingress).options(
        name=INGRESS,
        # Two, so that one of them may die. They need no CPU of their own.
        num_replicas=min(2, settings.replicas.most),
        max_ongoing_requests=_IN_INGRESS,
        graceful_shutdown_timeout_s=settings.drain_seconds,
        graceful_shutdown_wait_loop_s=0.5,
        ray_actor_options={"num_cpus": 0},
    )
    return deployment.bind(dict(handles), body_bytes(models), settings.answer_seconds)


def whole_application(models: Sequence[ServedModel], settings: Settings) -> Any:
    """All of it in one application of Ray Serve."""
    bound = {each.key: model_deployment(each, settings) for each in models}
    return ingress_deployment(models, bound, settings)
