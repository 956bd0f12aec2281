"""What is advised follows from the figures, and says them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from d2serve.server.measuring.advice import Advice, advice_of
from d2serve.server.measuring.plan import Cell, Setup, Stretch, Subject, reference_of, setups_for
from tests.handlers.samples import spec_with

SLOW = Subject("slow.mar", Path(), spec_with(runtime="torchscript"))
FAST = Subject("fast.mar", Path(), spec_with(runtime="openvino", method="tracing"))
STEPS = {"decode": 0.01, "preprocess": 0.01, "forward": 0.2, "postprocess": 0.01, "encode": 0.001}


def cell(
    subject: Subject,
    setup: Setup,
    rates: Sequence[float],
    latency: float = 0.2,
    steps: dict[str, float] | None = None,
) -> Cell:
    made = Cell(subject, setup, memory_mib=512)
    for number, rate in enumerate(rates, 1):
        made.stretches[number] = Stretch(rate, (latency,) * 5, steps or STEPS, 7)
    return made


def said(advice: Advice) -> str:
    return " ".join(advice.reasons)


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, ["1 x 1"]),
        (2, ["1 x 2", "2 x 1"]),
        (7, ["1 x 7", "3 x 2", "7 x 1"]),
        (12, ["1 x 12", "3 x 4", "6 x 2", "12 x 1"]),
        (64, ["1 x 64", "2 x 32", "4 x 16", "8 x 8", "16 x 4", "32 x 2", "64 x 1"]),
    ],
)
def test_setups_use_all_cores_and_no_more(cores: int, expected: list[str]) -> None:
    setups = setups_for(cores)
    assert [str(each) for each in setups] == expected
    assert all(each.workers * each.threads <= cores for each in setups)


def test_the_fastest_archive_and_its_workers_are_advised() -> None:
    cells = [
        cell(SLOW, Setup(1, 4), [2, 2.1]),
        cell(FAST, Setup(1, 4), [6, 6.3], latency=0.1),
        cell(SLOW, Setup(4, 1), [4, 4.2]),
        cell(FAST, Setup(4, 1), [12, 13], latency=0.3),
    ]
    advice = advice_of(cells, cores=4)
    assert advice.archive == "fast.mar"
    assert advice.lines == (("config.properties", "default_workers_per_model=4"),)
    assert "3.05 times (3.00 to 3.10) as many as slow.mar" in said(advice)
    assert "4 x 1 (workers x threads) answers 2.03 times" in said(advice)
    assert "answered soonest with 1 x 4: in 100 ms (p50), with 4 x 1 in 300 ms" in said(advice)
    assert "4 workers take 512 MiB each, 2 GiB in all" in said(advice)
    assert "The model itself takes 87 % of an image's time." in said(advice)
    assert reference_of(cells) is cells[2]


def test_a_difference_within_the_noise_is_none() -> None:
    cells = [cell(FAST, Setup(1, 2), [9, 11]), cell(FAST, Setup(2, 1), [10, 10.2])]
    assert "no clear difference" in said(advice_of(cells, cores=2))


def test_threads_are_set_only_where_a_worker_would_take_others() -> None:
    advice = advice_of([cell(FAST, Setup(2, 1), [5, 5]), cell(FAST, Setup(1, 8), [3, 3])], cores=8)
    assert ("environment of the server", "OMP_NUM_THREADS=1") in advice.lines
    assert "A worker would otherwise use 4 threads." in advice.reasons


def test_of_one_setup_no_number_of_workers_is_advised() -> None:
    advice = advice_of([cell(FAST, Setup(1, 2), [5, 5])], cores=2)
    assert advice.lines == ()
    assert "1 x 2 (workers x threads) is the only setup that was measured" in said(advice)
    assert "1 worker takes 512 MiB, 0.5 GiB in all" in said(advice)


@pytest.mark.parametrize(("rates", "taken"), [([15, 16], True), ([10, 10.1], False)])
def test_batches_are_advised_where_they_gain(rates: list[float], taken: bool) -> None:
    cells = [cell(SLOW, Setup(2, 1), [10, 10]), cell(SLOW, Setup(2, 1, 4), rates)]
    advice = advice_of(cells, cores=2)
    lines = [line for _file, line in advice.lines]
    assert ("batching: always" in lines) == taken
    assert ("batchSize: 4" in lines) == taken
    assert ("leave batching as it is" in said(advice)) != taken


@pytest.mark.parametrize(
    ("slow_step", "hint"), [("decode", "send smaller images"), ("postprocess", "masks=none")]
)
def test_time_outside_the_model_is_named(slow_step: str, hint: str) -> None:
    cells = [cell(SLOW, Setup(1, 1), [3], steps={**STEPS, slow_step: 0.3})]
    assert hint in said(advice_of(cells, cores=1))


def test_ratios_are_formed_within_rounds() -> None:
    """The machine was twice as fast in the second round, for both."""
    first, second = cell(SLOW, Setup(1, 1), [5, 10]), cell(FAST, Setup(1, 1), [10, 20])
    ratio = second.ratio(first)
    assert (ratio.value, ratio.low, ratio.high) == (2, 2, 2)
    late = replace(second, stretches={3: second.stretches[1]})
    assert late.ratio(first).value == pytest.approx(10 / 7.5)
