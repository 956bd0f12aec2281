"""A record of a run as one would measure it, for the tests of what is made of it."""

from __future__ import annotations

from typing import Any

from benchmarks.pieces.forward import Forward
from benchmarks.pieces.layers import LayerTimes
from benchmarks.pieces.mask_encoders import MaskTiming
from benchmarks.pieces.request import AROUND, Pieces
from benchmarks.served.sides import CPP, EAGER, FASTAPI, ONNXRUNTIME, OPENVINO, SIDES, TORCHVISION
from benchmarks.serving.agreement import Agreement, workload_of
from benchmarks.serving.cold_start import Start, cold_start_of
from benchmarks.serving.load import Load
from benchmarks.serving.long_run import LongRun, Sizes
from benchmarks.serving.measuring import Probe
from benchmarks.serving.pairs import Pair
from benchmarks.serving.parts import ABOVE, ALL, FEW, NO_MASKS, Parts
from benchmarks.serving.plan import BenchPlan, Setup
from benchmarks.serving.results import BenchResults, SideResult
from benchmarks.serving.summary import summarise
from benchmarks.shared.machine import this_machine
from benchmarks.shared.memory import Memory
from d2serve.server.measuring.figures import Figure, median_ratio

FULL = {"size": [8, 8], "counts": "0P2"}
EMPTY = {"size": [8, 8], "counts": "P2"}
_NONE = Figure(0.0, 0.0, 0.0)


def reply(boxes: list[list[float]], mask: dict[str, Any] = FULL) -> dict[str, Any]:
    """An answer with these boxes, each of another class."""
    return {
        "model": "m",
        "version": "1.0",
        "image": {"height": 8, "width": 8},
        "instances": [
            {
                "bbox": box,
                "bbox_mode": "XYXY_ABS",
                "score": 0.9 - i / 10,
                "category_id": i,
                "segmentation": mask,
            }
            for i, box in enumerate(boxes)
        ],
    }


def results() -> BenchResults:
    """Two rounds, in which every side but eager is 2 and 3 times as fast."""
    eager = (Load(10.0, (2.0, 3.0)), Load(12.0, (3.0, 3.0)))
    ours = (Load(5.0, (1.0, 1.5)), Load(4.0, (0.75, 1.5)))
    eager_start = Start(8.0, 2.0, Memory(700.0, None))
    sides = {}
    for name, side in SIDES.items():
        rounds = eager if name == EAGER else ours
        start = eager_start if name == EAGER else Start(4.0, 0.5, Memory(300.0, 250.0))
        sides[name] = SideResult(
            probes=(Probe(Setup(1, 2), 0.4, 2.5), Probe(Setup(2, 1), 0.5, 4.0)),
            setup=Setup(2, 1),
            rounds=rounds,
            summary=summarise(rounds, eager),
            cold_start=cold_start_of([start]),
            cold_start_ratio=median_ratio([start.total], [eager_start.total]),
            memory_after_run=Memory(800.0 if name == EAGER else 420.0, 600.0),
            pieces=None if name in (FASTAPI, TORCHVISION, CPP) else _pieces(name),
            agreement=None
            if side.bounds is None
            else Agreement(1, 1, 1, 1, _NONE, _NONE, Figure(1.0, 1.0, 1.0)),
        )
    fresh = Sizes((100, 200, 150), (0.1, 0.2, 0.3), (0.1, 0.2, 0.15))
    plan = BenchPlan(rounds=2)
    return BenchResults(
        date="2026-01-01T00:00:00+00:00",
        steps={"Exporting": 20.0, "Measuring": 40.0},
        machine=this_machine(),
        plan=plan,
        picture_bytes=1000,
        workload=workload_of(reply([[0, 0, 8, 8]]), 1),
        model_operations=320e9,
        sides=sides,
        mask_encoders={
            "random model": MaskTiming(
                100, 900, Figure(50, 49, 51), Figure(1000, 990, 1010), Figure(0.05, 0.05, 0.05), 100
            )
        },
        long_runs={
            name: LongRun(
                (fresh,),
                (Sizes((100, 200, 150), (0.1, 0.2, 0.15), (0.1, 0.2, 0.15)),),
                Figure(1.2, 1.1, 1.4),
                Figure(1.3, 1.2, 1.5),
                Figure(1.1, 1.1, 1.1),
                rss_few=300.0,
                rss_many=330.0,
            )
            for name in plan.long_run_sides
        },
        left_out={},
        winograd=("portable", "avx2"),
        layers=(
            LayerTimes(
                "avx2", Figure(2000, 1990, 2010), Figure(900, 890, 910), Figure(0.45, 0.4, 0.5)
            ),
        ),
        parts={
            name: Parts(
                {kind: Figure(0.5, 0.4, 0.6) for kind in (ALL, NO_MASKS, FEW, ABOVE)},
                no_masks=Figure(1.3, 1.2, 1.4),
                few=Figure(1.25, 1.2, 1.3),
                above=Figure(1.2, 1.1, 1.3),
            )
            for name in (ONNXRUNTIME, OPENVINO)
        },
        pairs={OPENVINO: Pair(1400.0, 700.0)},
    )


def _pieces(name: str) -> Pieces:
    forward = Forward(
        this_machine().cores,
        SIDES[name].precision,
        Figure(1000.0, 990.0, 1010.0),
        Figure(3e11, 3e11, 3e11),
        Figure(1.1, 1.05, 1.2),
    )
    around = {step: Figure(10.0, 9.0, 12.0) for step in AROUND}
    return Pieces(around, Figure(30.0, 27.0, 36.0), (forward,))
