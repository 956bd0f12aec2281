"""What a version has to answer before it answers anybody else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from d2serve.client.predict.http_client import D2ServeClient
from d2serve.handlers.spec.output_names import SEM_SEG
from d2serve.server.torchserve.process import TorchServeProcess
from d2serve.server.upgrading.checking import CheckFailed, Sample, check, sample
from tests.cli.small_archives import small_spec


@pytest.fixture(scope="module")
def client(archives: Path) -> Iterator[D2ServeClient]:
    """Of a server of canned answers, of 4x6 pixels."""
    with TorchServeProcess({"canned": archives / "canned.mar"}) as server:
        yield server.http


@pytest.mark.server
def test_an_answer_is_held_to_what_the_archive_promises(client: D2ServeClient) -> None:
    small = Sample("small.png", b"1", (4, 6))
    spec = small_spec("canned")
    assert check(client, "canned", "1.0", small, spec, 3) == 1
    assert check(client, "canned", "1.0", sample(None, None), None, 1) == 1
    semantic = dataclasses.replace(spec, outputs=(*spec.outputs, SEM_SEG))
    for told, image, promised in (
        ("a size of 4x6 for an image of 480x640", sample(None, spec), spec),
        ("no sem_seg", small, semantic),
        ("is at fault|not an image", Sample("bad.png", b"bad", None), spec),
        ("does not answer other.png", Sample("other.png", b"other", None), spec),
        ("does not answer boom.png", Sample("boom.png", b"boom", None), spec),
    ):
        with pytest.raises(CheckFailed, match=told):
            check(client, "canned", "1.0", image, promised, 2)
    with pytest.raises(CheckFailed, match=r"Version 2\.0 of canned does not answer"):
        check(client, "canned", "2.0", small, spec, 1)
    assert check(client, "canned", "1.0", Sample("other.png", b"other", None), None, 1) is None
