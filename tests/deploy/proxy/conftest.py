"""A real TorchServe, and nginx before it; a server that only says what reached it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from d2serve.server.probes.server import ProbeServer
from d2serve.server.torchserve.config.ports import LOOPBACK, Ports
from d2serve.server.torchserve.process import TorchServeProcess
from tests.client.conftest import CANNED_HANDLER, make_archive
from tests.conftest import Exporter
from tests.deploy.proxy.running import Behind, Proxy, configured
from tests.deploy.proxy.stand_ins import Echo, listening

NAME, CHEAP = "shapes", "canned"


@pytest.fixture(scope="session")
def server(
    exported: Exporter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TorchServeProcess]:
    """Serves a trained Mask R-CNN, and a handler that only answers, with one worker each."""
    store = tmp_path_factory.mktemp("canned") / "store"
    store.mkdir()
    cheap = make_archive(store, CHEAP, CANNED_HANDLER, "1.0")
    archive = exported("mask_rcnn_fpn", "onnxruntime")  # no torch, so a worker is soon there
    models = {NAME: archive, CHEAP: cheap}
    oip = {"TS_OPEN_INFERENCE_PROTOCOL": "oip"}  # else gRPC has no such calls
    settings = {"default_workers_per_model": "1"}
    with TorchServeProcess(models, overrides=settings, environment=oip) as running:
        yield running


@pytest.fixture(scope="session")
def probes(server: TorchServeProcess) -> Iterator[ProbeServer]:
    """Answers the probes of the server, as in `d2serve serve`."""
    with ProbeServer(LOOPBACK, Ports.free().inference, server.ports) as answering:
        answering.watch.serving(server)
        yield answering


@pytest.fixture(scope="session")
def behind(server: TorchServeProcess, probes: ProbeServer) -> Behind:
    assert server.key_file is not None
    ports = server.ports
    port_of_probes = urlsplit(str(probes.address)).port
    assert port_of_probes is not None
    return Behind(
        server.key_file, ports.inference, ports.grpc_inference, ports.metrics, port_of_probes
    )


@pytest.fixture(scope="session")
def proxy(behind: Behind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with configured(tmp_path_factory.mktemp("proxy"), behind) as running:
        yield running


@pytest.fixture
def echo() -> Iterator[Echo]:
    with listening(Echo()) as made:
        yield made


@pytest.fixture
def before_echo(echo: Echo, tmp_path: Path) -> Behind:
    key_file = tmp_path / "key_file.json"
    key_file.write_text('{"inference": {"key": "of-torchserve"}, "API": {"key": "secret"}}')
    return Behind(key_file, echo.port, echo.port, echo.port, echo.port)


@pytest.fixture
def echoing(before_echo: Behind, tmp_path: Path) -> Iterator[Proxy]:
    """A proxy whose answers say what reached the server behind it."""
    folder = tmp_path / "proxy"
    folder.mkdir()
    with configured(folder, before_echo) as running:
        yield running
