"""What a node, or a process, adds to the time of an image, with images that only take time.

python -m benchmarks.batch.nodes ARCHIVE FOLDER COUNT processes|nodes
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.batch.stand_in import SECONDS, Sleeper
from d2serve.server.batch.job import Engine, Job, Share, run
from d2serve.server.batch.processes import on_this_machine

IMAGES_EACH = 100


def overhead(job: Job, output: Path, count: int, engine: Engine) -> float:
    """Milliseconds that an image takes a worker beyond its own time, between the first rows and
    the last ones that all workers were busy for."""
    images: Sequence[Any] = [Sleeper(str(number)) for number in range(IMAGES_EACH * count)]
    seen: list[tuple[float, int]] = []
    run(
        job,
        "stand-in",
        images,
        str(output),
        engine,
        lambda n, _: seen.append((time.monotonic(), n)),
    )
    steady = [each for each in seen if 0.1 * len(images) <= each[1] <= 0.9 * len(images)]
    (first, before), (last, after) = steady[0], steady[-1]
    return 1000 * ((last - first) * count / (after - before) - SECONDS)


def on_nodes(job: Job, output: Path, count: int) -> float:
    """The same with so many nodes of a Ray cluster, all on this machine, of a worker each."""
    from ray.cluster_utils import Cluster

    from d2serve.server.batch.on_ray import on_ray

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(count - 1):
            cluster.add_node(num_cpus=1)
        return overhead(job, output, count, on_ray(cluster.address, Share(count)))
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])  # for workers
    asked, folder, number = Job.of(Path(sys.argv[1]), {}), Path(sys.argv[2]), int(sys.argv[3])
    if sys.argv[4] == "nodes":
        milliseconds = on_nodes(asked, folder, number)
    else:
        milliseconds = overhead(asked, folder, number, on_this_machine(Share(number)))
    print(json.dumps(milliseconds))
