"""The parts of the benchmark that need neither a server nor a full-size model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.agreement import agreement_of, workload_of
from benchmarks.cold_start import ColdStart
from benchmarks.errors import BenchError
from benchmarks.figures import Figure, median_of, median_ratio, pooled_percentile
from benchmarks.load import Load, closed_loop
from benchmarks.machine import this_machine
from benchmarks.memory import Memory
from benchmarks.photo import jpeg, photo
from benchmarks.pieces import AROUND, FORWARD, OUTSIDE
from benchmarks.plan import (
    EAGER,
    SCRIPTING,
    SIDES,
    TRACING,
    BenchPlan,
    Setup,
    candidates,
    requests_per_round,
)
from benchmarks.report import LABELS, as_markdown, tables
from benchmarks.results import BenchResults, Probe, SideResult
from benchmarks.run import save
from benchmarks.summary import summarise
from d2serve.client.http_client import D2ServeClient
from d2serve.client.responses import Prediction, parse_prediction
from d2serve.handlers.decoding import decode

_FULL = {"size": [8, 8], "counts": "0P2"}
_EMPTY = {"size": [8, 8], "counts": "P2"}


def _prediction(boxes: list[list[float]], mask: dict[str, Any] = _FULL) -> Prediction:
    return parse_prediction(
        {
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
    )


def _results() -> BenchResults:
    memory = Memory(700.0, None)
    eager = (Load(10.0, (2.0, 3.0)), Load(12.0, (3.0, 3.0)))
    ours = (Load(5.0, (1.0, 1.5)), Load(4.0, (0.75, 1.5)))
    sides = {}
    for side in SIDES:
        rounds = eager if side == EAGER else ours
        sides[side] = SideResult(
            probes=(Probe(Setup(1, 2), 0.4, 2.5), Probe(Setup(2, 1), 0.5, 4.0)),
            setup=Setup(2, 1),
            rounds=rounds,
            summary=summarise(rounds, eager),
            cold_start=ColdStart(Figure(5, 4, 6), Figure(2, 1, 3), Figure(7, 5, 9), memory),
            memory_after_run=Memory(800.0, 600.0),
            pieces={step: Figure(10.0, 9.0, 12.0) for step in (*AROUND, FORWARD, OUTSIDE)},
            agreement=None
            if side == EAGER
            else {"box_px": 0.0, "score": 0.0, "masks_differing": 0},
        )
    return BenchResults(
        date="2026-01-01T00:00:00+00:00",
        seconds=60.0,
        machine=this_machine(),
        plan=BenchPlan(rounds=2),
        picture_bytes=1000,
        workload=workload_of(_prediction([[0, 0, 8, 8]]), 1),
        sides=sides,
    )


def test_a_median_has_its_range() -> None:
    assert median_of([3.0, 1.0, 2.0, 10.0]) == Figure(2.5, 1.0, 10.0)
    with pytest.raises(ValueError, match="Nothing was measured"):
        median_of([])


def test_a_ratio_is_formed_within_a_round() -> None:
    # Ratios 2, 0.5 and 1; the ratio of the medians would be 1.5.
    assert median_ratio([2.0, 3.0, 10.0], [1.0, 6.0, 10.0]) == Figure(1.0, 0.5, 2.0)
    with pytest.raises(ValueError, match="cannot be compared"):
        median_ratio([1.0], [1.0, 2.0])


def test_a_percentile_is_over_all_rounds_with_the_range_of_each() -> None:
    assert pooled_percentile([[1.0, 3.0], [5.0, 7.0]], 50) == Figure(4.0, 2.0, 6.0)


def test_rounds_become_throughput_latency_and_ratios() -> None:
    summary = _results().sides[TRACING].summary
    assert summary.throughput == Figure(0.45, 0.4, 0.5)
    assert summary.throughput_ratio.low == pytest.approx(2.0)
    assert summary.throughput_ratio.high == pytest.approx(3.0)
    assert summary.latency["p50"].value == pytest.approx(1.25)
    assert summary.latency_ratio["p50"].low == pytest.approx(1.125 / 3)


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, [(1, 1)]),
        (2, [(1, 2), (2, 1)]),
        (8, [(1, 8), (2, 4), (4, 2)]),
    ],
)
def test_candidates_use_every_core(cores: int, expected: list[tuple[int, int]]) -> None:
    assert [(setup.workers, setup.threads) for setup in candidates(cores)] == expected


def test_requests_fit_into_the_time_left() -> None:
    plan = BenchPlan(rounds=5, least_requests=4)
    assert requests_per_round(plan, 400.0, [0.4, 0.4, 0.5], workers=1) == 11
    assert requests_per_round(plan, 400.0, [0.4, 0.4, 0.5], workers=2) == 10
    assert requests_per_round(plan, -1.0, [0.4, 0.4, 0.5], workers=2) == 4


def test_the_picture_is_the_same_each_time() -> None:
    first = jpeg(photo(60, 80, seed=3))
    assert first == jpeg(photo(60, 80, seed=3))
    assert decode(first).shape == (60, 80, 3)


def test_load_is_measured_and_checked() -> None:
    client = cast(
        D2ServeClient, SimpleNamespace(predict=lambda *_: _prediction([[0, 0, 8, 8]] * 3))
    )
    load = closed_loop(client, "m", b"", requests=4, concurrency=2, detections=3)
    assert len(load.latencies) == 4
    assert load.throughput == pytest.approx(4 / load.seconds)
    with pytest.raises(BenchError, match="3 instances under load, expected 5"):
        closed_loop(client, "m", b"", requests=1, concurrency=1, detections=5)


def test_other_answers_than_eagers_stop_the_run() -> None:
    eager = _prediction([[0, 0, 8, 8], [1, 1, 5, 5]])
    near = _prediction([[0, 0, 8, 8.001], [1, 1, 5, 5]])
    far = _prediction([[0, 0, 8, 7], [1, 1, 5, 5]])
    found = agreement_of({EAGER: eager, TRACING: eager, SCRIPTING: near})
    assert found[TRACING] == {"box_px": 0.0, "score": 0.0, "masks_differing": 0}
    assert found[SCRIPTING]["box_px"] == pytest.approx(0.001, rel=1e-2)
    with pytest.raises(BenchError, match=r"tracing does not answer .* pred_boxes by 1 px"):
        agreement_of({EAGER: eager, TRACING: far})


def test_an_answer_without_work_in_it_stops_the_run() -> None:
    assert workload_of(_prediction([[0, 0, 8, 4]]), 1)["median_box"] == (4.0, 8.0)
    with pytest.raises(BenchError, match="answered 1 instances"):
        workload_of(_prediction([[0, 0, 8, 8]]), 100)
    with pytest.raises(BenchError, match="masks of m are empty"):
        workload_of(_prediction([[0, 0, 8, 8]], _EMPTY), 1)


def test_tables_have_a_row_for_each_side() -> None:
    results = _results()
    for table in tables(results):
        assert {row[0] for row in table.rows} == {LABELS[side] for side in SIDES}
        assert all(len(row) == len(table.header) for row in table.rows)
    markdown = as_markdown(results)
    assert "| d2serve tracing | 2 x 1 | 4 | 0.450 (0.400 to 0.500) | 2.50 (2.00 to 3.00) |" in (
        markdown
    )


def test_results_are_written_without_naming_this_machine(tmp_path: Path) -> None:
    save(_results(), tmp_path)
    text = (tmp_path / "results.json").read_text()
    assert str(Path.cwd()) not in text
    assert str(tmp_path) not in text
    loaded = json.loads(text)
    assert set(loaded["machine"]) == {"cpu", "cores", "memory_gib", "system", "versions"}
    assert set(loaded) == {
        "date",
        "seconds",
        "machine",
        "plan",
        "picture_bytes",
        "workload",
        "sides",
        "schema_version",
    }
    assert loaded["schema_version"] == 1
    assert list(loaded["sides"]) == list(SIDES)
    assert set(loaded["sides"][EAGER]) == {
        "probes",
        "setup",
        "rounds",
        "summary",
        "cold_start",
        "memory_after_run",
        "pieces",
        "agreement",
    }
    assert set(loaded["sides"][EAGER]["summary"]["latency"]) == {"p50", "p95", "p99"}
    assert loaded["sides"][TRACING]["rounds"][0] == {"seconds": 5.0, "latencies": [1.0, 1.5]}
    assert {"torch", "torchvision", "torchserve"} <= set(loaded["machine"]["versions"])
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
