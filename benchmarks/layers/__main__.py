"""All 3x3 layers of the full-size model beside OpenVINO's own: ``make bench-layers``.

Each layer runs by OpenVINO and by the native kernels in turn, in float32 on one thread, with its
bias and its ReLU. Each set of instructions is measured in a process of its own; with AVX2, OpenVINO
is held to AVX2 as well.
"""

from __future__ import annotations

import sys

from benchmarks.layers.measuring import WaySeconds, measure, measure_here, measured_ways
from benchmarks.shared.machine import this_machine

MOST = 0.35
"""Of OpenVINO's time."""


def main() -> int:
    if len(sys.argv) == 3:
        print(measure_here(sys.argv[1], int(sys.argv[2])))
        return 0
    ways = measured_ways()
    if not ways:
        print("The native kernels are not installed, or this CPU has no AVX2: nothing to measure.")
        return 1
    machine = this_machine()
    print(f"{machine.cores} cores of {machine.cpu}; CPU milliseconds of one run, on one thread")
    return max(_tell(measure(way)) for way in ways)


def _tell(found: WaySeconds) -> int:
    print(f"\n{found.way:10} {'images, channels, size':24} runs   OpenVINO     ours   ratio")
    for each in found.layers:
        print(
            f"{each.part:10} {each.size:24} {each.times:4} {1000 * each.openvino:10.1f} "
            f"{1000 * each.ours:8.1f} {each.ours / each.openvino:7.2f}"
        )
    passed = found.ratio <= MOST
    print(f"{'all':40} {1000 * found.openvino:10.0f} {1000 * found.ours:8.0f} {found.ratio:7.3f}")
    print(f"{'passed' if passed else 'failed'}: at most {MOST:g} of OpenVINO's time")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
