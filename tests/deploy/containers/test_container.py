"""The image of deploy/Dockerfile, built and run: ready, asked over HTTP and gRPC, and drained."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import environment.image
from d2serve.server.archives.contents import read_contents
from environment.image import local_paths, pip_settings
from tests.conftest import ROOT, Exporter
from tests.deploy.containers import container
from tests.deploy.containers.container import ADDRESS, Container, running

MISSING = environment.image.lacking() or container.lacking()
needs_buildah = pytest.mark.skipif(MISSING is not None, reason=f"no image here: {MISSING}")
SAMPLE = ROOT / "examples" / "shapes" / "sample.jpg"
AT_ONCE = 8
ASKING = """
import sys
from concurrent.futures import ThreadPoolExecutor
from d2serve.client import D2ServeClient

address, key_file, name, image, count = sys.argv[1:]
client = D2ServeClient(address, key_file=key_file)
def ask(_):
    return len(client.predict(name, image).instances)
with ThreadPoolExecutor(int(count)) as pool:
    asked = [pool.submit(ask, each) for each in range(3 * int(count))]
    print("asked", flush=True)
    print(*(each.result() for each in asked))
"""


@pytest.fixture(scope="module")
def archive(exported: Exporter) -> Path:
    return exported("mask_rcnn_fpn", "onnxruntime")


@pytest.fixture(scope="module")
def name(archive: Path) -> str:
    return read_contents(archive).name


@pytest.fixture(scope="module")
def served(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    models = tmp_path_factory.mktemp("models")
    Path(shutil.copy(archive, models)).chmod(0o644)
    models.chmod(0o755)
    log = tmp_path_factory.mktemp("log") / "container.log"
    with environment.image.builder() as builder:
        image = builder.build("onnxruntime", builder.base())
        with running(builder, image, models, log) as started:
            started.wait_until(started.is_healthy, 180)
            yield started


@needs_buildah
@pytest.mark.long
@pytest.mark.server
@pytest.mark.timeout(1500)
class TestContainer:
    """In this order: the last test stops it."""

    def test_it_runs_as_nobody_on_a_root_that_cannot_be_written(self, served: Container) -> None:
        assert served.status("Uid").split() == ["10001"] * 4
        assert served.status("Gid").split() == ["10001"] * 4
        assert int(served.status("CapEff"), 16) == 0
        assert served.status("NoNewPrivs") == "1"
        assert served.status("NSpid").split()[-1] == "1"
        assert not served.can_write("/etc/written")
        assert not served.can_write("/opt/d2serve/written")
        assert not served.can_write("/models/written")
        assert served.can_write("/tmp/written")
        assert served.key_file.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("protocol", ["http", "grpc"])
    def test_it_answers_at_its_address(self, served: Container, name: str, protocol: str) -> None:
        address = f"http://{ADDRESS}:8080" if protocol == "http" else f"{ADDRESS}:7070"
        asked = served.on_its_network(
            *(command("d2serve"), "predict", name, SAMPLE, "--json", "--protocol", protocol),
            *("--address", address, "--key-file", served.key_file, "--allow-token-in-clear"),
        )
        assert asked.returncode == 0, asked.stderr
        assert len(json.loads(asked.stdout)["instances"]) > 3

    def test_predictions_and_probes_are_open_and_nothing_else(self, served: Container) -> None:
        code = (
            "import socket, sys\n"
            "for port in map(int, sys.argv[2:]):\n"
            "    print(port, socket.socket().connect_ex((sys.argv[1], port)) == 0)"
        )
        ports = (8080, 7070, 8085, 8081, 8082, 7071)
        asked = served.on_its_network(sys.executable, "-c", code, ADDRESS, *ports)
        reached = dict(line.split() for line in asked.stdout.splitlines())
        assert [port for port in ports if reached[str(port)] == "True"] == [8080, 7070, 8085]

    def test_sigterm_loses_nothing(self, served: Container, name: str) -> None:
        address, key_file = "http://127.0.0.1:8080", served.key_file
        asking = served.starts_on_its_network(
            sys.executable, "-c", ASKING, address, key_file, name, SAMPLE, AT_ONCE
        )
        assert asking.stdout is not None
        assert asking.stdout.readline() == "asked\n"
        status, seconds = served.stop()
        told, _ = asking.communicate(timeout=120)
        assert asking.returncode == 0, told
        answered = told.split()
        assert len(answered) == 3 * AT_ONCE
        assert len(set(answered)) == 1
        assert status == 0, served.log.read_text()
        assert seconds < 30 + 20
        assert not Path(f"/proc/{served.pid}").exists()


def command(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def test_pips_settings_go_with_the_build(tmp_path: Path) -> None:
    index = tmp_path / "index" / "simple"
    index.mkdir(parents=True)
    certificate = tmp_path / "ca.pem"
    certificate.touch()
    listed = (
        f":env:.cert='{certificate}'\n"
        "global.cert='/elsewhere.pem'\n"
        "global.disable-pip-version-check='1'\n"
        f"global.extra-index-url='\\nhttps://example.com/simple\\nfile://{index}'\n"
    )
    settings = pip_settings(listed)
    assert settings.splitlines() == [
        "[global]",
        f"cert = {certificate}",
        f"extra-index-url =  https://example.com/simple file://{index}",
    ]
    assert local_paths(settings) == sorted([certificate, index.parent])
