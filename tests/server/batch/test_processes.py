"""Processes answer each image once, and as a plain loop does, whatever becomes of some of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from d2serve.client.errors import ArchiveRefused
from d2serve.server.batch import processes
from d2serve.server.batch.errors import BatchRefused, WorkersFailed
from d2serve.server.batch.job import Job, Share, run, tasks_of
from d2serve.server.batch.processes import on_this_machine
from d2serve.server.images.image_file import FileImage
from tests.server.batch.archives import (
    BROKEN,
    Deadly,
    found,
    images_of,
    job_of,
    plain_loop,
    replies,
)


def test_rows_are_those_of_a_plain_loop_and_errors_are_of_their_image(tmp_path: Path) -> None:
    job = job_of(tmp_path, masks="polygon", score_thresh=0.1)
    folder = images_of(tmp_path / "photos", 40, {7: BROKEN, 20: b""})
    images = found(folder)
    gone = FileImage(str(folder / "gone.png"))
    deadly: Any = Deadly("deadly.png")
    given = [*images[:13], gone, *images[13:26], deadly, *images[26:]]
    shown: list[tuple[int, int]] = []
    results = run(
        job,
        "photos",
        given,
        str(tmp_path / "r"),
        on_this_machine(Share(2)),
        lambda *n: shown.append(n),
    )
    codes = {row["path"]: row["error_code"] for row in results.rows()}
    assert Counter(row["path"] for row in results.rows()) == Counter(each.name for each in given)
    assert {name: code for name, code in codes.items() if code is not None} == {
        images[7].name: "unsupported_image_format",
        images[20].name: "empty_request",
        gone.name: "unreadable_file",
        deadly.name: "worker_ended",
    }
    good = [image for number, image in enumerate(images) if number not in (7, 20)]
    assert replies(job, results) == plain_loop(job, good)
    assert shown[0] == (0, 42)
    assert shown[-1] == (42, 42)


def test_an_archive_that_cannot_be_loaded_ends_it(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    job.archive.write_bytes(job.archive.read_bytes()[:-100])
    engine = on_this_machine(Share(1))
    with pytest.raises(ArchiveRefused, match=r"shapes\.mar"):
        run(
            job,
            "x",
            found(images_of(tmp_path / "p", 3)),
            str(tmp_path / "r"),
            engine,
            lambda *_: None,
        )


def test_workers_that_all_end_do_not_go_on_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_MOST_ENDED", 1)
    job = job_of(tmp_path)
    deadly: list[Any] = [Deadly(f"{number}.png") for number in range(9)]
    with pytest.raises(WorkersFailed, match=r"by SIGKILL.*memory"):
        run(job, "x", deadly, str(tmp_path / "r"), on_this_machine(Share(1)), lambda *_: None)


def test_no_room(tmp_path: Path) -> None:
    del tmp_path
    with pytest.raises(BatchRefused, match="--cpus-per-worker"):
        on_this_machine(Share(1, cpus=4000))
    with pytest.raises(BatchRefused, match="--gpus-per-worker"):
        on_this_machine(Share(400, gpus=1))


@pytest.mark.parametrize(("count", "workers", "largest"), [(1, 4, 1), (100, 2, 6), (9999, 2, 8)])
def test_few_images_are_spread(count: int, workers: int, largest: int) -> None:
    images = [FileImage(str(number)) for number in range(count)]
    tasks = tasks_of(images, workers)
    assert [image for task in tasks for image in task] == images
    assert max(map(len, tasks)) == largest


def test_a_job_that_no_image_could_be_asked(tmp_path: Path) -> None:
    with pytest.raises(BatchRefused, match="score_thresh"):
        job_of(tmp_path, score_thresh=7)
    (tmp_path / "no.mar").write_bytes(b"no archive")
    with pytest.raises(ArchiveRefused):
        Job.of(tmp_path / "no.mar", {})
