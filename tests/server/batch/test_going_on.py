"""The same command goes on: each path once, in whole files, and never into another job's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2serve.client.errors import ClientError
from d2serve.server.batch import results as results_module
from d2serve.server.batch.errors import BatchRefused
from d2serve.server.batch.folder import Folder
from d2serve.server.batch.job import Job, run
from d2serve.server.batch.results import Results
from d2serve.server.batch.rows import failed
from d2serve.server.images.image_file import FileImage, ImageFile
from tests.client.answering_archives import answering_archive
from tests.server.batch.archives import found, images_of, job_of, plain_loop, replies

IMAGES: list[ImageFile] = [FileImage(f"{number}.png") for number in range(30)]


class Engine:
    """Answers each image with its own error, in threes; after so many it is interrupted."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.asked: list[str] = []

    def __call__(self, job: Job, images: Sequence[ImageFile]) -> Iterator[Any]:
        for start in range(0, len(images), 3):
            names = [image.name for image in images[start : start + 3]]
            if len(self.asked) >= self.most:
                raise KeyboardInterrupt
            self.asked += names
            yield pa.Table.from_pylist([failed(n, "x", f"of {n}") for n in names], job.schema)


def ran(job: Job, output: str | Path, engine: Engine, where: str = "photos") -> Results:
    return run(job, where, IMAGES, str(output), engine, lambda *_: None)


@pytest.mark.parametrize("where", ["here", "memory"])
def test_what_was_interrupted_goes_on(tmp_path: Path, where: str) -> None:
    output = str(tmp_path / "r") if where == "here" else f"memory://{uuid4().hex}/r"
    job = job_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ran(job, output, Engine(12))
    second = Engine()
    results = ran(job, output, second)
    assert results.kept == 12
    assert second.asked == [image.name for image in IMAGES[12:]]
    assert Counter(row["path"] for row in results.rows()) == Counter(i.name for i in IMAGES)
    third = Engine()
    assert ran(job, output, third).codes == {"x": 30}
    assert third.asked == []
    files, path = fsspec.url_to_fs(output)
    table = pq.read_table(path, filesystem=files)  # the whole folder, as pandas reads it
    assert table.num_rows == 30
    assert table.schema.names[:3] == ["path", "error_code", "error"]


def test_nothing_is_added_to_the_results_of_another_job(tmp_path: Path) -> None:
    ran(job_of(tmp_path), tmp_path / "r", Engine())
    before = sorted(each.name for each in (tmp_path / "r").iterdir())
    with pytest.raises(BatchRefused, match=r"options of the requests was \{\} and is.*0\.7"):
        ran(job_of(tmp_path, score_thresh=0.7), tmp_path / "r", Engine())
    with pytest.raises(BatchRefused, match='IMAGES was "photos" and is "others"'):
        ran(job_of(tmp_path), tmp_path / "r", Engine(), "others")
    (tmp_path / "other").mkdir()
    other = Job.of(
        answering_archive(tmp_path / "other" / "o.mar", version="3.0", nms_thresh=0.1), {}
    )
    with pytest.raises(BatchRefused, match=r'version was "2\.0" and is "3\.0"; the archive'):
        ran(other, tmp_path / "r", Engine())
    assert before == sorted(each.name for each in (tmp_path / "r").iterdir())


def test_relative_images_are_those_of_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(job_of(tmp_path), tmp_path / "r", Engine())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BatchRefused, match="the folder in which the command runs was"):
        ran(job_of(tmp_path), tmp_path / "r", Engine())


def test_a_folder_with_files_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "mine.parquet").write_bytes(b"")
    with pytest.raises(BatchRefused, match=r"mine\.parquet.*--output"):
        ran(job_of(tmp_path), tmp_path / "r", Engine())


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with Folder(str(tmp_path / "r")).locked(), pytest.raises(BatchRefused, match="Another"):
        ran(job_of(tmp_path), tmp_path / "r", Engine())


def test_half_a_file_is_swept_away_and_a_damaged_one_named(tmp_path: Path) -> None:
    ran(job_of(tmp_path), tmp_path / "r", Engine())
    half = tmp_path / "r" / ".part-00007-0.parquet.abc.partial"
    half.write_bytes(b"PAR1")
    ran(job_of(tmp_path), tmp_path / "r", Engine())
    assert not half.exists()
    (part,) = (tmp_path / "r").glob("part-*")
    part.write_bytes(part.read_bytes()[:-50])
    with pytest.raises(BatchRefused, match=f"{part.name} cannot be read.*Remove it"):
        ran(job_of(tmp_path), tmp_path / "r", Engine())


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BatchRefused, match="cannot be used for results"):
        ran(job_of(tmp_path), tmp_path / "file" / "r", Engine())
    with pytest.raises(ClientError, match="nosuch"):
        ran(job_of(tmp_path), "nosuch://bucket/r", Engine())


def test_a_row_that_comes_twice_is_written_once(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    results = Results(Folder(str(tmp_path / "r")), job.schema)
    table = pa.Table.from_pylist([failed("a", "x", ""), failed("b", "x", "")], job.schema)
    assert results.add(table) == 2
    assert results.add(pa.concat_tables([table, table.slice(0, 0)])) == 0
    results.flush()
    assert [row["path"] for row in results.rows()] == ["a", "b"]


def test_ctrl_c_while_a_part_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Folder.write
    interrupted: list[str] = []

    def written_and_interrupted(folder: Folder, name: str, data: bytes) -> None:
        write(folder, name, data)
        if name.startswith("part-") and not interrupted:
            interrupted.append(name)
            raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "write", written_and_interrupted)
    monkeypatch.setattr(results_module, "_FEWEST_SECONDS", 0.0)
    job = job_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ran(job, tmp_path / "r", Engine())
    assert interrupted
    results = ran(job, tmp_path / "r", Engine())
    assert Counter(row["path"] for row in results.rows()) == Counter(i.name for i in IMAGES)


IMPATIENT = (
    "import d2serve.server.batch.results as r; r._FEWEST_SECONDS = r._PART_OF_TIME = 0.05\n"
    "from d2serve.cli.main import main; main()"
)


@pytest.mark.long
@pytest.mark.parametrize(
    ("by", "status"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130), (signal.SIGINT, 130)],
)
def test_a_driver_that_is_ended_loses_little_and_goes_on(
    tmp_path: Path, by: signal.Signals, status: int
) -> None:
    job = job_of(tmp_path)
    photos, output = images_of(tmp_path / "photos", 600), tmp_path / "r"
    command = [sys.executable, "-c", IMPATIENT, "batch", str(job.archive), str(photos)]
    command += ["--output", str(output), "--workers", "1"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as driver:
        until = time.monotonic() + 60
        while len(list(output.glob("part-*"))) < 2 and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(driver.pid, by)
    assert driver.returncode == status
    written = [
        row["path"] for part in output.glob("part-*") for row in pq.read_table(part).to_pylist()
    ]
    assert 0 < len(written) < 600
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert f"600 images, {len(written)} of them before: 600 answered, 0 failed." in again.stdout
    options = {"masks": "rle", "sem_seg": "png", "extra": "json"}
    results = Results(Folder(str(output)), job.schema)
    paths = [row["path"] for row in results.rows()]
    assert sorted(paths) == sorted(image.name for image in found(photos))
    job = Job.of(job.archive, options)
    assert replies(job, results) == plain_loop(job, found(photos))
