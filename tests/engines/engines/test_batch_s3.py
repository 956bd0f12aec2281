"""``d2serve batch`` from and to S3, which moto stands in for, with Ray and without."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pandas
import pytest
from moto.server import ThreadedMotoServer

from d2serve.server.batch.folder import Folder
from d2serve.server.batch.job import Job
from d2serve.server.batch.results import Results
from d2serve.server.batch.rows import reply_of
from tests.engines.reference import Reference

MAIN = "from d2serve.cli.main import main; main()"
OPTIONS = {"masks": "rle", "sem_seg": "png", "extra": "json"}
COUNT = 40


@pytest.fixture(scope="module")
def bucket(reference: Reference) -> Iterator[str]:
    """A bucket with 40 images and a broken one under photos/."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        # As the commands that this test starts find it, and Ray's workers below them.
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # which writes into the home folder
        fsspec.filesystem("s3").clear_instance_cache()
        files = fsspec.filesystem("s3")
        files.mkdir("shots")
        for image in reference.images[:COUNT]:
            files.pipe_file(f"shots/photos/{image.name}", image.read_bytes())
        files.pipe_file("shots/photos/zzz.jpg", b"no image")
        files.pipe_file("shots/photos/notes.json", b"{}")
        try:
            yield "s3://shots"
        finally:
            server.stop()


@pytest.mark.parametrize("more", [[], ["--ray-address", "local"]], ids=["processes", "ray"])
def test_from_s3_to_s3_and_again(
    bucket: str, reference: Reference, tmp_path: Path, more: list[str]
) -> None:
    output = f"{bucket}/results-{len(more)}"
    command = [sys.executable, "-c", MAIN, "batch", str(reference.archive), f"{bucket}/photos"]
    command += ["--output", output, *more]
    first = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert f"{COUNT + 1} images: {COUNT} answered, 1 failed." in first.stdout
    assert "unsupported_image_format: 1" in first.stdout

    job = Job.of(reference.archive, OPTIONS)
    rows = [row for row in Results(Folder(output), job.schema).rows() if not row["error_code"]]
    replies = {row["path"]: reply_of(row, job.spec, job.version, OPTIONS) for row in rows}
    assert replies == {
        f"{bucket}/photos/{image.name}": reference.answers[image.name].replace(
            b'"request_id":"",', b""
        )
        for image in reference.images[:COUNT]
    }

    fsspec.filesystem("s3").pipe_file("shots/photos/new.jpg", reference.images[50].read_bytes())
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    fsspec.filesystem("s3").rm_file("shots/photos/new.jpg")
    assert f"{COUNT + 2} images, {COUNT + 1} of them before" in again.stdout, again.stderr
    frame = pandas.read_parquet(output)
    assert sorted(frame.path) == sorted(
        [*replies, f"{bucket}/photos/zzz.jpg", f"{bucket}/photos/new.jpg"]
    )
