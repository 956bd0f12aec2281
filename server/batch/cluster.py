"""Whether a cluster has room for workers: Ray itself would wait for it without a word."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from d2serve.server.batch.errors import BatchRefused
from d2serve.server.batch.job import Share

Resources = Mapping[str, float]
"""``CPU`` and ``GPU``."""

_PATIENCE = 20.0
"""Seconds for what a job before has not given back yet."""


def fitted(
    share: Share,
    nodes: Sequence[Resources],
    free: Callable[[], Resources],
    patience: float = _PATIENCE,
) -> Share:
    """The same with a number of workers for which there is room.

    Args:
        share: with None workers, all that fit.
        nodes: what each has.
        free: gives what all of them have free now.

    Raises:
        BatchRefused: there is no room for one worker, or for as many as are asked for.
    """
    until = time.monotonic() + patience
    wanted = share.workers or 1
    most = sum(_fit(share, node) for node in nodes)  # each lies on one node
    room = min(most, _fit(share, free()))
    while room < wanted <= most and time.monotonic() < until:
        time.sleep(0.5)
        room = min(most, _fit(share, free()))
    if room >= wanted:
        return replace(share, workers=share.workers or room)
    have = ", ".join(_said(node) for node in nodes)
    raise BatchRefused(
        f"The Ray cluster has room for {room} workers of {share.cpus} CPUs and {share.gpus:g} "
        f"GPUs, expected room for {wanted}. Its nodes have {have or 'nothing'}, and "
        f"{_said(free())} are free. Ray would wait for ever: add nodes, wait for other jobs, or "
        "ask for less with --workers, --cpus-per-worker or --gpus-per-worker."
    )


def _fit(share: Share, resources: Resources) -> int:
    by_cpu = resources.get("CPU", 0) / share.cpus
    return int(min(by_cpu, resources.get("GPU", 0) / share.gpus) if share.gpus else by_cpu)


def _said(resources: Resources) -> str:
    return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
