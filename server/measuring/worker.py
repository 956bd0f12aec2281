"""A worker process: it answers images as a worker of a server does, as fast as it can.

Runs as ``python -m d2serve.server.measuring.worker``. It reads lines of JSON and answers each with
one: first ``{"folder", "threads", "batch", "images", "warm_up"}``, then ``{"seconds", "first"}``
for each stretch. It ends when its standard input closes: nobody waits for it any more.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d2serve.handlers.errors import LoadError
from d2serve.handlers.replies.reply import Reply
from d2serve.handlers.requests.request import Request
from d2serve.handlers.service import Service

LEAST_CALLS = 2
"""Of a stretch, however slow the model is."""


def main() -> None:
    """Answer whoever started this process."""
    job = json.loads(sys.stdin.readline())
    try:
        batching = "always" if job["batch"] > 1 else "never"
        service = Service.open(job["folder"], threads=job["threads"], batching=batching)
    except LoadError as error:
        _say({"error": str(error)})
        return
    bodies = [_body(Path(file)) for file in job["images"]]
    refused = _warm_up(service, bodies, job["warm_up"])
    good = [body for i, body in enumerate(bodies) if i not in refused]
    _say({"refused": {str(i): message for i, message in refused.items()}})
    for line in sys.stdin:
        asked = json.loads(line)
        _say(_stretch(service, good, job["batch"], asked["seconds"], asked["first"]))


def _body(file: Path) -> Any:
    return np.load(file) if file.suffix == ".npy" else file.read_bytes()


def _warm_up(service: Service, bodies: Sequence[Any], seconds: float) -> dict[int, str]:
    """Answer the images once, but no further one after so long; which are refused, and why."""
    refused, end = {}, time.perf_counter() + seconds
    for i, body in enumerate(bodies):
        reply = service.reply(Request(body))
        if reply.status != 200:
            refused[i] = reply.message
        elif time.perf_counter() > end:
            break
    return refused


def _stretch(
    service: Service, bodies: Sequence[Any], batch: int, seconds: float, first: int
) -> dict[str, Any]:
    """Answer one image after another for so long, beginning with a certain one."""
    latencies: list[float] = []
    steps: dict[str, float] = {}
    images, objects, position = 0, 0, first
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(latencies) < LEAST_CALLS:
        some = [Request(bodies[(position + i) % len(bodies)]) for i in range(batch)]
        position += batch
        asked = time.perf_counter()
        replies = service.replies(some)
        latencies.append(time.perf_counter() - asked)
        for reply in replies:
            if reply.status != 200:  # the warm-up had no time for this image
                return {"error": f"An image is refused: {reply.message}"}
            images += 1
            objects += _add(steps, reply)
    return {
        "images": images,
        "elapsed": time.perf_counter() - start,
        "latencies": latencies,
        "steps": {name: total / images for name, total in steps.items()},
        "objects": objects / images,
    }


def _add(steps: dict[str, float], reply: Reply) -> int:
    """Add an image's seconds to those of the steps; what was found in it."""
    for name, took in reply.seconds.items():
        shared = reply.call.images if name == "forward" and reply.call is not None else 1
        steps[name] = steps.get(name, 0.0) + took / shared
    found = reply.found
    return 0 if found is None or found.objects is None else found.objects


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
