"""What is measured of a part of the work: requests for less than all, and single layers."""

from __future__ import annotations

from benchmarks.served.sides import SIDES
from benchmarks.serving.parts import ABOVE, ALL, FEW, NO_MASKS
from benchmarks.serving.results import BenchResults
from benchmarks.shared.table import Table, spread


def parts(results: BenchResults) -> Table:
    """Images per second by what is asked for."""
    few = results.plan.few_instances
    return Table(
        "Asking for less than all, images per second",
        f"score_thresh is such that it leaves {few}. Median of {results.plan.part_rounds} rounds, "
        "in which the kinds of request take turns (lowest to highest).",
        (
            "side",
            "all with masks",
            NO_MASKS,
            f"{FEW}={few}",
            ABOVE,
            "without masks by all",
            f"{few} by all",
        ),
        tuple(
            (
                SIDES[name].label,
                *(spread(each.throughput[kind], 3) for kind in (ALL, NO_MASKS, FEW, ABOVE)),
                spread(each.no_masks, 2),
                spread(each.few, 2),
            )
            for name, each in results.parts.items()
        ),
    )


def layers(results: BenchResults) -> Table:
    """3x3 convolutions by themselves."""
    return Table(
        "All 3x3 convolutions of stride 1, milliseconds in one thread",
        "Each layer of the model as often as it runs, without a server; ours and OpenVINO's in "
        "turns, both with those instructions at most.",
        ("instructions", "OpenVINO", "d2serve's kernels", "ratio"),
        tuple(
            (each.way, spread(each.openvino, 0), spread(each.ours, 0), spread(each.share, 3))
            for each in results.layers
        ),
    )
