"""The image of deploy/kserve.Dockerfile, built and run: ready, asked, and drained."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import environment.image
from d2serve.server.archives.contents import read_contents
from tests.conftest import ROOT, Exporter
from tests.deploy.containers import container
from tests.deploy.containers.container import ADDRESS, Container, running

MISSING = environment.image.lacking() or container.lacking()
SAMPLE = ROOT / "examples" / "shapes" / "sample.jpg"
COUNT = 12
ASKING = """
import sys
from concurrent.futures import ThreadPoolExecutor
from d2serve.client import D2ServeClient

address, name, image, count = sys.argv[1:]
client = D2ServeClient(address)
with ThreadPoolExecutor(int(count)) as pool:
    asked = [pool.submit(client.predict, name, image) for _ in range(int(count))]
    asked[0].result()
    print("asked", flush=True)
    print(*(len(each.result().instances) for each in asked))
"""


@pytest.fixture(scope="module")
def archive(exported: Exporter) -> Path:
    return exported("mask_rcnn_fpn", "onnxruntime")


@pytest.fixture(scope="module")
def served(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    models = tmp_path_factory.mktemp("models")
    Path(shutil.copy(archive, models)).chmod(0o644)
    models.chmod(0o755)
    log = tmp_path_factory.mktemp("log") / "container.log"
    with environment.image.builder() as builder:
        image = builder.build("onnxruntime", builder.base(), file="kserve.Dockerfile")
        with running(builder, image, models, log, "/mnt/models") as started:
            started.wait_until(started.is_healthy, 180)
            yield started


@pytest.mark.skipif(MISSING is not None, reason=f"no image here: {MISSING}")
@pytest.mark.long
@pytest.mark.export
@pytest.mark.timeout(1500)
def test_it_answers_as_nobody_and_sigterm_loses_nothing(served: Container, archive: Path) -> None:
    assert served.status("Uid").split() == ["10001"] * 4
    assert int(served.status("CapEff"), 16) == 0
    assert served.status("NSpid").split()[-1] == "1"
    assert not served.can_write("/opt/d2serve/written")
    asking = served.starts_on_its_network(
        *(sys.executable, "-c", ASKING, f"http://{ADDRESS}:8080"),
        *(read_contents(archive).name, SAMPLE, COUNT),
    )
    assert asking.stdout is not None
    assert asking.stdout.readline() == "asked\n"
    status, seconds = served.stop()
    told, _ = asking.communicate(timeout=120)
    assert asking.returncode == 0, told
    assert len(set(told.split())) == 1
    assert len(told.split()) == COUNT
    assert status == 0, served.log.read_text()
    assert seconds < 30
