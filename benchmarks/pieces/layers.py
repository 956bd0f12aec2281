"""The 3x3 convolutions by themselves: ours and OpenVINO's, in turns, a process for each way.

Which instructions OpenVINO uses is decided when its library is loaded, hence the processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks.shared.errors import BenchError
from benchmarks.shared.kernels import winograd_ways
from d2serve.server.measuring.figures import Figure, median_of, median_ratio

HELD_TO: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "avx512": {}}
)
"""What holds OpenVINO to the instructions of a way. The portable way is for no user."""


@dataclass(frozen=True)
class LayerTimes:
    """All 3x3 convolutions of the model with stride 1, each as often as it runs."""

    way: str
    """Instructions that both use at most."""
    openvino: Figure
    """Milliseconds of one thread."""
    ours: Figure
    share: Figure
    """Ours by OpenVINO's."""


def layer_times(repeats: int, only: Sequence[int] = ()) -> tuple[LayerTimes, ...]:
    """Of each way that this machine has; none where the native code is not installed.

    Args:
        repeats: times that all are measured, after a first run of each.
        only: places in the table of layers; empty is all.

    Raises:
        BenchError: they could not be measured.
    """
    ways = [way for way in winograd_ways() if way in HELD_TO]
    return tuple(_of_way(way, repeats, only) for way in ways)


def _of_way(way: str, repeats: int, only: Sequence[int]) -> LayerTimes:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__, way, str(repeats), *map(str, only)],
        env={**os.environ, **HELD_TO[way]},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise BenchError(f"The 3x3 convolutions by {way} could not be timed: {done.stderr[-800:]}")
    pairs = json.loads(done.stdout.splitlines()[-1])
    theirs, ours = ([1000 * pair[side] for pair in pairs] for side in (0, 1))
    return LayerTimes(way, median_of(theirs), median_of(ours), median_ratio(ours, theirs))


def main(way: str, repeats: str, *only: str) -> None:
    """Print, as JSON, seconds of OpenVINO and ours for each time that all were measured."""
    from benchmarks.layers.layers import LAYERS
    from benchmarks.layers.measuring import seconds_of

    layers = [each for place, each in enumerate(LAYERS) if not only or str(place) in only]
    pairs = []
    for _ in range(int(repeats)):
        theirs = ours = 0.0
        for layer in layers:
            of_one = seconds_of(layer, way, 1)
            theirs, ours = theirs + layer.times * of_one[0], ours + layer.times * of_one[1]
        pairs.append((theirs, ours))
    print(json.dumps(pairs))


if __name__ == "__main__":
    main(*sys.argv[1:])
