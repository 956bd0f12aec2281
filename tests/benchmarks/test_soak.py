"""What a soak finds wrong, of samples made up."""

from __future__ import annotations

import pytest

from benchmarks.soak.asking import Outcomes
from benchmarks.soak.processes import Holding, Sample, slope_of
from benchmarks.soak.traffic import OK, one_round
from benchmarks.soak.verdict import courses_of, failures_of, floors_of

WORKER = "worker 1"


def samples(mb_an_hour: float = 0.0, files_an_hour: float = 0.0) -> list[Sample]:
    """Ten minutes, of which the warm-up is wild, and what is seen under load always."""
    found = []
    for number in range(121):
        hours = number * 5 / 3600
        wild = 50.0 * (number % 2) if number < 40 or number % 3 else 0.3 * (number % 2)
        kept = 800 + mb_an_hour * hours
        files = 5 + int(files_an_hour * hours)
        holding = Holding(900, kept + wild, files, 1 + number % 2)
        found.append(Sample(hours * 3600, number % 3 == 0, {WORKER: holding}))
    return found


def failures(of: list[Sample], outcomes: Outcomes | None = None) -> list[str]:
    return failures_of(courses_of(of), [WORKER], outcomes or Outcomes(), [])


def test_what_stays_passes_and_what_grows_does_not() -> None:
    assert failures(samples()) == []
    assert failures(samples(mb_an_hour=2)) == []
    (told,) = failures(samples(mb_an_hour=8))
    assert "worker 1 grows by 8.0 MB an hour" in told
    (told,) = failures(samples(files_an_hour=60))
    assert "open files" in told


def test_what_is_held_at_least_is_what_counts() -> None:
    """Free memory comes and goes by some megabytes; a leak does not go."""
    for leak, expected in ((0, 0), (20, 20)):
        teeth = [(5.0 * i, 800 + leak * i / 720 + 8 * (i % 12 > 3)) for i in range(80)]
        floors = floors_of(teeth)
        assert len(floors) == 5
        slope = slope_of(floors)
        assert slope.value == pytest.approx(expected)
        assert (slope.low > 0) == (leak > 0)


def test_wrong_answers_and_none_are_told() -> None:
    outcomes = Outcomes()
    outcomes.counts["HTTP 503"] += 2
    outcomes.unexpected["a picture: HTTP 503"] += 2
    outcomes.unanswered["a picture: ReadTimeout"] += 1
    assert outcomes.server_errors == 2
    assert failures(samples(), outcomes) == [
        "2 times a picture: HTTP 503",
        "1 times a picture: ReadTimeout",
    ]


def test_a_slope_and_its_interval() -> None:
    line = [(60.0 * i, 100 + i / 60) for i in range(30)]  # 1 MB an hour
    assert slope_of(line).value == pytest.approx(1)
    line[7] = (420.0, 900.0)  # one jump decides nothing
    slope = slope_of(line)
    assert slope.low <= slope.value <= slope.high
    assert slope.value == pytest.approx(1)


def test_a_round_has_some_of_everything() -> None:
    requests = one_round()
    names = [request.name for request in requests]
    assert len(set(names)) == len(names), "answers are compared by name"
    expected = {request.expects for request in requests}
    assert expected >= {OK, "invalid_image", "image_too_large", "invalid_option", "empty_request"}
    assert any(request.path is None for request in requests)
