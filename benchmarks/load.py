"""Why: throughput and latency come from the same requests, sent as a client would send them.

The loop is closed: as many clients as there are workers, each sending its next request when it has
the answer to the last. A latency is what the client sees, parsing of the reply included.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.errors import BenchError
from d2serve.client.http_client import D2ServeClient


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


def closed_loop(
    client: D2ServeClient,
    model: str,
    image: bytes,
    requests: int,
    concurrency: int,
    detections: int,
) -> Load:
    """Send requests and wait for all answers.

    Args:
        client: of the server.
        model: name of the model.
        image: an encoded picture, the same for each request.
        requests: how many.
        concurrency: how many are under way at once.
        detections: instances that each answer must have.

    Raises:
        ClientError: a request failed.
        BenchError: an answer is not the expected one.
    """

    def one(_: int) -> float:
        sent = time.perf_counter()
        answer = client.predict(model, image)
        latency = time.perf_counter() - sent
        if len(answer.instances) != detections:
            raise BenchError(
                f"{model} answered {len(answer.instances)} instances under load, expected "
                f"{detections}: the figures would not be of the same work."
            )
        return latency

    start = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as clients:
        latencies = tuple(clients.map(one, range(requests)))
    return Load(time.perf_counter() - start, latencies)
