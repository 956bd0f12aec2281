"""Runs a batch and says when rows came, and how long each part took.

python -m benchmarks.batch.timed ARCHIVE FOLDER OUTPUT [RAY_ADDRESS]
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from d2serve.server.batch.job import Engine, Job, Share, run
from d2serve.server.batch.processes import on_this_machine
from d2serve.server.images.sources import find_images


def timed(archive: str, folder: str, output: str, address: str | None) -> dict[str, float]:
    """Images, and seconds from the first rows to the last ones, and what came with the first."""
    job = Job.of(Path(archive), {})
    images = list(find_images(folder))
    seen: list[tuple[float, int]] = []
    engine: Engine
    if address is None:
        engine = on_this_machine(Share())
    else:
        from d2serve.server.batch.on_ray import on_ray

        engine = on_ray(address, Share())
    run(job, folder, images, output, engine, lambda n, _: seen.append((time.monotonic(), n)))
    (first, with_first), (last, every) = seen[1], seen[-1]
    return {"steady_images": every - with_first, "steady_seconds": last - first}


if __name__ == "__main__":
    archive, folder, output, *more = sys.argv[1:]
    print(json.dumps(timed(archive, folder, output, more[0] if more else None)))
