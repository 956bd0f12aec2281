"""What a soak finds wrong, of samples and deeds made up."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.soak.asking import Outcomes, content_of
from benchmarks.soak.deeds import RESTART, UPGRADE, Deed, failures_of_operating, told_of
from benchmarks.soak.processes import Holding, Sample, slope_of
from benchmarks.soak.serving import Log, with_version
from benchmarks.soak.traffic import OK, one_round
from benchmarks.soak.verdict import courses_of, failures_of, failures_of_convolution, floors_of

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


def test_a_few_floors_that_rise_may_be_chance() -> None:
    """0.3 MB in three minutes would be 8 MB an hour."""
    found = [each for each in samples(mb_an_hour=8) if each.seconds <= 240]
    (course,) = courses_of(found).values()
    assert course.slope.low > 0
    assert len(course.floors) < 5
    assert failures(found) == []


def test_what_is_held_at_least_is_what_counts() -> None:
    """Free memory comes and goes by some megabytes; a leak does not go."""
    for leak, expected in ((0, 0), (20, 20)):
        teeth = [(5.0 * i, 800 + leak * i / 720 + 8 * (i % 12 > 3)) for i in range(80)]
        floors = floors_of(teeth)
        assert len(floors) == 9
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


@dataclass
class Spoken:
    """A server, as far as its words go."""

    said: str = "Draining: what was asked is answered first\nStopped.\n"
    log: Log = field(default_factory=Log)


def test_what_went_wrong_in_operating_is_told() -> None:
    deeds = [Deed(UPGRADE, 20.0, 9.0), Deed(RESTART, 60.0, 12.0), Deed(UPGRADE, 90.0, 11.0)]
    assert failures_of_operating(deeds, 13, 10, Spoken()) == []
    assert told_of(deeds) == "2 upgrades of 9 to 11 s, 1 restart of 12 s"
    deeds.append(Deed(RESTART, 120.0, 3.0, "3 requests were not answered within 30 s, and lost"))
    log = Log()
    log.no_objects.append("no object")
    spoken = Spoken("The server's tokens could not be renewed: ...", log)
    assert [each[:30] for each in failures_of_operating(deeds, 1, 10, spoken)] == [
        "restart after 120 s: 3 request",
        "1 tokens in 10 minutes, though",
        "tokens could not be renewed: T",
        "1 lines of the log are no JSON",
    ]


def test_deeds_that_were_not_done_are_told() -> None:
    (told,) = failures_of_operating([Deed(UPGRADE, 20.0, 9.0)], 13, 10, Spoken())
    assert told == "no restart was done"


def test_answers_of_two_versions_are_the_same() -> None:
    ids = ("b96a74c6-0518-448d-9179-bdd246f384c4", "fe31b090-ef2d-4183-aed3-74319528c1dd")
    first, second = (
        content_of(f'{{"version":"{n}.0","model_version": "{n}.0","request_id":"{each}"}}'.encode())
        for n, each in enumerate(ids, 1)
    )
    assert first == second
    assert content_of(b'{"score":0.5}') != content_of(b'{"score":0.6}')


def test_an_archive_under_another_version(tmp_path: Path) -> None:
    archive = tmp_path / "a.mar"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("MAR-INF/MANIFEST.json", '{"model": {"modelName": "a", "modelVersion": "1"}}')
        made.writestr("model.onnx", b"program")
    with zipfile.ZipFile(with_version(archive, 7, tmp_path)) as copied:
        manifest = json.loads(copied.read("MAR-INF/MANIFEST.json"))
        assert manifest == {"model": {"modelName": "a", "modelVersion": "7.0"}}
        assert copied.read("model.onnx") == b"program"


def test_a_soak_without_the_convolution_that_it_is_of_has_failed() -> None:
    assert failures_of_convolution((), {}) == []
    assert failures_of_convolution(("avx2",), {"soak runs with 9 by Winograd": 2}) == []
    (failure,) = failures_of_convolution(("portable", "avx2"), {})
    assert "portable, avx2" in failure
