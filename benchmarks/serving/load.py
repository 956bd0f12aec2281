"""Sends requests as a client would; throughput and latency come from the same ones.

The loop is closed: as many clients as there are workers, each sending its next request when it has
the answer to the last. A latency is what the client sees, parsing of the reply included.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks.serving.hosts import Ask, Served
from benchmarks.shared.errors import BenchError


@dataclass(frozen=True)
class Load:
    """What one side did in one round."""

    seconds: float
    """From the first request to the last answer."""
    latencies: tuple[float, ...]
    """Seconds, one for each request."""

    @property
    def throughput(self) -> float:
        """Images per second."""
        return len(self.latencies) / self.seconds


def instances_in(reply: bytes) -> list[Any]:
    """The instances of a parsed reply; the torchvision example's reply is the bare list of them.

    Raises:
        BenchError: it is neither.
    """
    parsed = orjson.loads(reply)
    found = parsed.get("instances") if isinstance(parsed, dict) else parsed
    if not isinstance(found, list):
        raise BenchError(
            f"Got a reply without instances, expected detections: {reply[:200]!r}. The worker "
            "probably failed; its server's model_log.log says why."
        )
    return found


def ask_all(served: Served, image: bytes) -> list[bytes]:
    """One request for every worker, all at once; the replies."""
    with ThreadPoolExecutor(len(served.asks)) as clients:
        return list(clients.map(lambda ask: ask(image), served.asks))


def closed_loop(served: Served, image: bytes, requests: int, least: int) -> Load:
    """Send requests and wait for all answers.

    Args:
        served: the side; each of its clients waits for its own answers.
        image: an encoded picture, the same for each request.
        requests: how many.
        least: instances that each answer must have at least.

    Raises:
        BenchError: a request failed, or an answer is not the expected one.
    """
    turns = iter(range(requests))  # shared: a client takes the next one when it is free

    def client(ask: Ask) -> list[float]:
        latencies = []
        while next(turns, None) is not None:
            sent = time.perf_counter()
            found = len(instances_in(ask(image)))
            latencies.append(time.perf_counter() - sent)
            if found < least:
                raise BenchError(
                    f"{served.side} answered {found} instances under load, expected {least}: the "
                    "figures would not be of the same work. See its model_log.log."
                )
        return latencies

    start = time.perf_counter()
    with ThreadPoolExecutor(len(served.asks)) as clients:
        latencies = [each for mine in clients.map(client, served.asks) for each in mine]
    return Load(time.perf_counter() - start, tuple(latencies))
