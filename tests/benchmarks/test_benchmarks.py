"""The parts of the benchmark that need neither a server nor a full-size model."""

from __future__ import annotations

import ast
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import openvino.opset8 as opset
import pytest
import torch

from benchmarks.layers.measuring import LayerSeconds, WaySeconds
from benchmarks.pieces.counters import LayerShares, layer_shares
from benchmarks.pieces.forward import time_forward
from benchmarks.pieces.layers import layer_times
from benchmarks.pieces.mask_encoders import TRAINED, RoiMasks, time_encoders
from benchmarks.pieces.peak import peak
from benchmarks.report.overview import as_markdown, save, tables
from benchmarks.report.reasons import UNKNOWN
from benchmarks.report.targets import judge
from benchmarks.served.sides import (
    EAGER,
    FASTAPI,
    ONNXRUNTIME,
    OPENVINO_BF16,
    OPENVINO_INT8,
    SCRIPTING,
    SIDES,
    TRACING,
    Bounds,
    Precision,
)
from benchmarks.serving.agreement import agreement_of, workload_of
from benchmarks.serving.cold_start import Start, cold_start_of
from benchmarks.serving.hosts import Ask, Served
from benchmarks.serving.load import closed_loop, instances_in
from benchmarks.serving.long_run import Pictures, Sizes, visits
from benchmarks.serving.plan import BenchPlan, Setup, candidates, requests_in, seconds_for_a_side
from benchmarks.serving.results import BenchResults, SideResult
from benchmarks.shared.errors import BenchError
from d2serve.handlers.requests.decoding import decode
from d2serve.server.measuring.drawn_photo import jpeg, photo
from d2serve.server.measuring.figures import Figure, median_of, median_ratio, pooled_percentile
from tests.benchmarks.records import EMPTY, reply, results
from tests.conftest import ROOT


def _bounds(side: str) -> Bounds:
    bounds = SIDES[side].bounds
    assert bounds is not None
    return bounds


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
    summary = results().sides[TRACING].summary
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


def test_sides_get_the_same_time_and_not_the_same_requests() -> None:
    plan = BenchPlan(sides=(EAGER, TRACING), rounds=5, least_requests=2)
    assert seconds_for_a_side(plan, 200.0) == 20.0
    assert seconds_for_a_side(plan, -1.0) == 0.0
    assert requests_in(plan, 20.0, 0.4, workers=1) == 8
    assert requests_in(plan, 20.0, 2.05, workers=2) == 40
    assert requests_in(plan, 0.0, 0.4, workers=2) == 2
    assert requests_in(plan, 0.0, 0.4, workers=4) == 4


def test_the_picture_is_the_same_each_time() -> None:
    first = jpeg(photo(60, 80, seed=3))
    assert first == jpeg(photo(60, 80, seed=3))
    assert decode(first).shape == (60, 80, 3)


def test_pictures_of_the_long_run_are_the_same_each_time() -> None:
    one, two = Pictures(1), Pictures(1)
    assert [one.mixed() for _ in range(4)] == [two.mixed() for _ in range(4)]
    assert decode(one.encoded((30, 50), "WEBP")).shape == (30, 50, 3)


def test_a_slow_first_visit_shows_in_the_spread() -> None:
    pixels = tuple(range(1000, 1100))
    even = [n * 1e-5 for n in pixels]
    sizes = Sizes(pixels, (*even[:-3], *[each * 4 for each in even[-3:]]), tuple(even))
    assert sizes.spread(sizes.first, per_pixel=True) == pytest.approx(4.0)
    assert sizes.spread(sizes.again, per_pixel=True) == pytest.approx(1.0)
    assert sizes.spread(sizes.again, per_pixel=False) > 1.03


def _served(side: str, *asks: Ask) -> Served:
    return Served(side, Setup(len(asks), 1), asks, (), lambda: None)


def test_load_is_measured_and_checked() -> None:
    asked: list[int] = []

    def answering(client: int) -> Ask:
        def ask(_: bytes) -> bytes:
            asked.append(client)
            return json.dumps(reply([[0, 0, 8, 8]] * 3)).encode()

        return ask

    load = closed_loop(_served("m", answering(0), answering(1)), b"", requests=5, least=3)
    assert len(load.latencies) == len(asked) == 5
    assert load.throughput == pytest.approx(5 / load.seconds)
    with pytest.raises(BenchError, match="3 instances under load, expected 5"):
        closed_loop(_served("m", answering(0)), b"", requests=1, least=5)


def test_instances_are_found_in_both_kinds_of_reply() -> None:
    assert len(instances_in(b'{"instances": [1, 2]}')) == 2
    assert len(instances_in(b"[1, 2, 3]")) == 3
    with pytest.raises(BenchError, match="without instances"):
        instances_in(b'{"error": "x"}')


def test_other_answers_than_eagers_stop_the_run() -> None:
    eager = reply([[0, 0, 8, 8], [1, 1, 5, 5]])
    near = reply([[0, 0, 8, 8.001], [1, 1, 5, 5]])
    far = reply([[0, 0, 8, 7], [1, 1, 5, 5]])
    same = agreement_of(TRACING, _bounds(TRACING), eager, eager)
    assert (same.expected, same.found, same.within_bounds) == (2, 2, 2)
    assert same.box_px == Figure(0.0, 0.0, 0.0)
    close = agreement_of(SCRIPTING, _bounds(SCRIPTING), eager, near)
    assert close.box_px.high == pytest.approx(0.001, rel=1e-2)
    for side in (TRACING, FASTAPI, ONNXRUNTIME):
        with pytest.raises(BenchError, match=rf"{side} does not answer .* 1 of them within"):
            agreement_of(side, _bounds(side), eager, far)
    with pytest.raises(BenchError, match="does not answer"):
        agreement_of(TRACING, _bounds(TRACING), eager, reply([[0, 0, 8, 8], [1, 1, 5, 5]], EMPTY))


def test_layers_have_the_range_of_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.layers.measuring.ways", lambda: ())
    assert layer_times(2) == ()
    monkeypatch.setattr("benchmarks.layers.measuring.ways", lambda: ("portable", "avx2"))
    turns = iter([0.4, 0.5])

    def measure(way: str, rounds: int) -> WaySeconds:
        return WaySeconds(way, (LayerSeconds("res2", "", rounds, 1.0, next(turns)),))

    monkeypatch.setattr("benchmarks.pieces.layers.measure", measure)
    (times,) = layer_times(2)
    assert times.openvino == Figure(1000.0, 1000.0, 1000.0)
    assert times.share == Figure(0.45, 0.4, 0.5)


def test_one_instance_more_than_eagers_is_another_answer() -> None:
    eager = reply([[0, 0, 8, 8]])
    with pytest.raises(BenchError, match="tracing does not answer"):
        agreement_of(TRACING, _bounds(TRACING), eager, reply([[0, 0, 8, 8], [1, 1, 5, 5]]))


def test_few_of_many_may_give_way_in_another_runtime_and_all_in_low_precision() -> None:
    boxes = [[0.0, 0.0, 8.0, 1.0 + i / 2] for i in range(10)]
    one_off = [[*boxes[0][:3], 0.1], *boxes[1:]]
    found = agreement_of(ONNXRUNTIME, _bounds(ONNXRUNTIME), reply(boxes), reply(one_off))
    assert (found.found, found.within_bounds) == (9, 9)
    nothing = agreement_of(OPENVINO_INT8, _bounds(OPENVINO_INT8), reply(boxes), reply([]))
    assert (nothing.answered, nothing.found) == (0, 0)


def test_an_answer_without_work_in_it_stops_the_run() -> None:
    assert workload_of(reply([[0, 0, 8, 4]]), 1).median_box == (4.0, 8.0)
    with pytest.raises(BenchError, match="answered 1 instances"):
        workload_of(reply([[0, 0, 8, 8]]), 100)
    with pytest.raises(BenchError, match="masks of m are empty"):
        workload_of(reply([[0, 0, 8, 8]], EMPTY), 1)


def test_a_forward_is_compared_with_the_peak_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([1e9, 2e9])
    monkeypatch.setattr("benchmarks.pieces.forward.peak", lambda _precision, _threads: next(peaks))
    # Work of 10 and 5 ms at those peaks, done in a little more than 20 ms.
    result, forward = time_forward(lambda: time.sleep(0.02), "fp32", 1, work=1e7, seconds=0.01)
    assert result is None
    assert forward.peak == Figure(1.5e9, 1e9, 2e9)
    assert 2.0 <= forward.against_peak.low < forward.against_peak.high
    assert forward.milliseconds.low >= 20


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_the_peak_is_that_of_large_products(precision: Precision) -> None:
    assert peak(precision, 1) > 1e9


def test_mask_encoders_do_the_same_work() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0], [10.0, 5.0, 60.0, 50.0]])
    timing = time_encoders(RoiMasks(torch.rand(2, 28, 28), boxes), 64, 80, repeats=2)
    assert (timing.masks, timing.identical) == (2, 2)
    assert timing.ours.value > 0
    assert timing.share.low <= timing.share.value <= timing.share.high


def test_tables_have_a_row_for_each_side() -> None:
    record = results()
    every_side = {side.label for side in SIDES.values()}
    titles = {table.title: table for table in tables(record)}
    for title in ("Throughput, images per second", "Latency, seconds", "Cold start, seconds"):
        assert {row[0] for row in titles[title].rows} == every_side
    assert all(len(row) == len(t.header) for t in titles.values() for row in t.rows)
    assert "| d2serve tracing | 2 x 1 | 4 | 0.450 (0.400 to 0.500) | 2.50 (2.00 to 3.00) |" in (
        as_markdown(record)
    )


def test_targets_are_judged_and_not_moved() -> None:
    judged = {each.figure: each for each in judge(results())}
    assert not judged["throughput, fp32"].is_met  # 2.5 < 2.6
    assert judged["throughput, fp32"].target == ">= 2.6x"
    assert judged["throughput, fp32 in ONNX Runtime"].is_met  # 2.5 >= 1.8
    assert judged["throughput, fp32 in ONNX Runtime"].side == SIDES[ONNXRUNTIME].label
    assert not judged["3x3 convolutions by OpenVINO's, avx2"].is_met  # 0.45
    assert judged["masks=none by all masks, openvino"].is_met  # 1.3 >= 1.2
    few = judged["time of score_thresh leaving 10 by max_detections=10, openvino"]
    assert (few.is_met, few.target) == (False, "<= 1.05x")  # 1.2
    assert judged["forward by the machine's peak, fp32"].is_met  # 1.1
    assert judged["forward by the machine's peak, bf16"].is_met
    assert judged["time outside the forward"].is_met
    assert not judged["masks to RLE by detectron2's, random model"].is_met  # 1/20
    assert judged["cold start, tracing"].is_met  # 4.5 of 10
    assert not judged["cold start, onnxruntime"].is_met
    assert not judged["worker memory, openvino"].is_met  # 420 of 800
    assert not judged["memory of two workers by one of eager, openvino"].is_met
    assert not judged["memory after 1000 requests, tracing"].is_met  # 330 of 300
    assert not judged["p99 of 50 new sizes by that of the same again, onnxruntime"].is_met
    assert judged["worker memory, openvino"].reason == UNKNOWN
    assert judged["cold start, tracing"].reason == ""


def test_new_sizes_are_compared_with_the_same_seen_again() -> None:
    run = results().long_runs[TRACING]
    # Per pixel the slowest took 0.3 s / 150 at first, and 0.1 s / 100 again; p99 is close to them.
    assert run.fresh[0].first_by_again == pytest.approx(1.98, abs=0.01)
    assert run.known[0].first_by_again == 1
    (table,) = [each for each in tables(results()) if each.title.startswith("Many requests")]
    row = dict(zip(table.header, table.rows[0]))
    assert (row["p99, first by again"][:4], row["none new"][:4]) == ("1.98", "1.00")


def test_a_size_comes_again_while_others_come_first() -> None:
    order = list(visits(4, 2))
    assert order == [(0, 0), (0, 1), (0, 2), (1, 0), (0, 3), (1, 1), (1, 2), (1, 3)]


def test_a_reason_is_computed_from_the_run_that_missed_the_target() -> None:
    def reasons(record: BenchResults) -> dict[str, str]:
        return {each.figure: each.reason for each in judge(record)}

    record = results()
    told = reasons(record)
    # Eager answers 2 images in 10 and in 12 s.
    assert told["throughput, bf16"] == (
        "it leaves the machine 1558 ms for an image: the forward alone takes 1000 ms with all "
        "cores, and what surrounds it 30 ms in one thread"
    )
    assert told["throughput, fp32"].endswith("30 ms in one thread")
    without = reasons(replace(record, winograd=()))
    assert without["throughput, fp32"].endswith("so every convolution was direct")
    assert without["throughput, bf16"] == told["throughput, bf16"]
    growth = "memory after 1000 requests, tracing"
    assert told[growth] == "30 MiB more after 900 requests of new sizes, 34 KiB each"
    assert told["memory of two workers by one of eager, openvino"] == (
        "1400 MiB of both, and 700 MiB of an eager worker alone"
    )
    assert told["p99 of 50 new sizes by that of the same again, tracing"] == (
        "1 of 3 first visits took longer per pixel than every second one; where no size was new, "
        "the same was 1.00x"
    )
    whose = "masks to RLE by detectron2's, random model"
    assert told[whose] == "900 runs of pixels a mask"
    (ragged,) = record.mask_encoders.values()
    smooth = replace(ragged, runs=300.2, ours=Figure(20.0, 20.0, 20.0))
    encoders = {**record.mask_encoders, TRAINED: smooth}
    assert reasons(replace(record, mask_encoders=encoders))[whose] == (
        "900 runs of pixels a mask, for which ours takes 50.0 ms and detectron2 1000; for the "
        "300 of the trained example model 20.0 and 1000"
    )
    slow = replace(
        record, sides={name: _started(side, name) for name, side in record.sides.items()}
    )
    assert reasons(slow)["cold start, openvino"] == (
        "READY after 7.0 s, warm-up included, and the first answer 0.5 s later; "
        "eager detectron2 after 8.0 s and 2.0 s"
    )


def test_a_forward_far_from_the_peak_says_what_it_does_beside_multiplying() -> None:
    record = results()
    side = record.sides[OPENVINO_BF16]
    assert side.pieces is not None
    (forward,) = side.pieces.forwards
    slow = replace(forward, against_peak=Figure(2.0, 2.0, 2.0))
    pieces = replace(side.pieces, forwards=(slow,), layers=LayerShares(0.7, {"ROIAlign": 0.08}))
    changed = {**record.sides, OPENVINO_BF16: replace(side, pieces=pieces)}
    told = {each.figure: each.reason for each in judge(replace(record, sides=changed))}
    assert told["forward by the machine's peak, bf16"] == (
        "by OpenVINO's counters 700 of its 1000 ms are in layers that multiply, whose work takes "
        "500 ms at the peak; of the others the largest are ROIAlign 80 ms"
    )


def test_the_shares_of_layers_are_of_the_whole_forward(tmp_path: Path) -> None:
    image = opset.parameter([1, 8, -1, -1], np.float32)
    kernel = np.ones((8, 8, 3, 3), np.float32)
    convolved = opset.convolution(image, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    model = openvino.Model([opset.softmax(convolved, 1)], [image])
    openvino.save_model(model, tmp_path / "program.xml")
    shares = layer_shares(
        tmp_path / "program.xml", [np.ones((1, 8, 90, 80), np.float32)], "f32", threads=1
    )
    assert 0 < shares.multiplying < 1
    assert 0 < shares.others["Softmax"] < 1
    assert shares.multiplying + sum(shares.others.values()) <= 1.001


NINE = Figure(9.0, 9.0, 9.0)


def _started(side: SideResult, name: str) -> SideResult:
    """Where ours took seven seconds to be READY, and eager eight."""
    start = Start(8.0, 2.0, side.memory_after_run)
    if name != EAGER:
        start = Start(7.0, 0.5, side.memory_after_run)
    return replace(side, cold_start=cold_start_of([start]), cold_start_ratio=NINE)


def test_no_reason_has_a_figure_in_its_text() -> None:
    """All are computed: in the code that says them, a number is in braces only."""
    code = ast.parse((ROOT / "benchmarks" / "report" / "reasons.py").read_text())
    functions = [node for node in code.body if isinstance(node, ast.FunctionDef)]
    others = {ast.get_docstring(each, clean=False) for each in functions}
    others |= {ast.get_docstring(code, clean=False)}
    others |= {f".{digits}f" for digits in range(4)}
    texts = {str(node.value) for node in ast.walk(code) if isinstance(node, ast.Constant)} - others
    told = [text.replace("detectron2", "") for text in texts if " " in text]
    assert len(told) > 8
    assert [text for text in told if re.search(r"\d", text)] == []


def test_results_are_written_without_naming_this_machine(tmp_path: Path) -> None:
    save(results(), tmp_path)
    text = (tmp_path / "results.json").read_text()
    assert str(Path.cwd()) not in text
    assert str(tmp_path) not in text
    loaded = json.loads(text)
    assert set(loaded["machine"]) == {"cpu", "cores", "memory_gib", "system", "versions"}
    assert loaded["schema_version"] == 3
    assert list(loaded["sides"]) == list(SIDES)
    assert set(loaded["sides"][EAGER]["summary"]["latency"]) == {"p50", "p95", "p99"}
    assert loaded["sides"][TRACING]["rounds"][0] == {"seconds": 5.0, "latencies": [1.0, 1.5]}
    assert {"torch", "torchvision", "torchserve"} <= set(loaded["machine"]["versions"])
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
