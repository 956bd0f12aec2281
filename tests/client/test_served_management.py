"""Registering, describing, scaling and unregistering, against a real TorchServe."""

from __future__ import annotations

import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from d2serve.client import D2ServeClient, D2ServeGrpcClient
from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.errors import (
    AuthorizationError,
    ModelNotFound,
    RequestRejected,
    ServerOverloaded,
    WorkersNotReady,
)
from d2serve.client.management import ManagementClient
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import ROOT

pytestmark = pytest.mark.server


@pytest.fixture
def second(server: TorchServeProcess) -> Iterator[str]:
    """A second model, registered through the management API."""
    server.management.register("canned2.mar", model_name="second", batch_size=3, max_batch_delay=7)
    yield "second"
    server.management.unregister("second")


def test_a_registered_model_answers_and_is_described(
    server: TorchServeProcess, second: str
) -> None:
    (described,) = server.management.describe(second)
    assert (described.name, described.version) == ("second", "2.0")
    assert (described.batch_size, described.max_batch_delay) == (3, 7)
    assert described.is_ready
    assert [worker.status for worker in described.workers] == ["READY"]
    assert server.http.predict(second, b"1").model == "second"
    assert server.management.list_models() == {"canned": "canned.mar", "second": "canned2.mar"}


def test_scaling_changes_the_number_of_ready_workers(
    server: TorchServeProcess, second: str
) -> None:
    described = server.management.scale(second, min_worker=2)
    assert [worker.status for worker in described.workers] == ["READY", "READY"]
    assert not server.management.scale(second, min_worker=0).workers
    key, never = server.key_file, NO_RETRY
    with (
        D2ServeClient(server.inference_address, key_file=key, retry=never) as http,
        D2ServeGrpcClient(server.grpc_address, key_file=key, retry=never) as grpc,
    ):
        for client in (http, grpc):
            with pytest.raises(ServerOverloaded, match="no worker"):
                client.predict(second, b"1")
    with pytest.raises(WorkersNotReady, match="has no workers"):
        server.management.wait_ready(second, timeout=0)


def test_two_versions_side_by_side(server: TorchServeProcess) -> None:
    management = server.management
    management.register("canned2.mar", model_name="canned")
    try:
        assert {model.version for model in management.describe("canned", "all")} == {"1.0", "2.0"}
        assert server.http.predict("canned", b"1").version == "1.0"
        for client in (server.http, server.grpc):
            assert client.predict("canned", b"1", version="2.0").version == "2.0"
        management.set_default("canned", "2.0")
        assert server.http.predict("canned", b"1").version == "2.0"
        with pytest.raises(RequestRejected, match="Cannot remove default version"):
            management.unregister("canned", "2.0")
    finally:
        management.set_default("canned", "1.0")
        management.unregister("canned", "2.0")
    with pytest.raises(ModelNotFound):
        server.http.predict("canned", b"1", version="2.0")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x.mar",
        "https://127.0.0.1:1/x.mar",
        "HTTP://127.0.0.1:1/x.mar",
        "file:///tmp/x.mar",
    ],
)
def test_urls_are_refused_by_the_safe_settings(server: TorchServeProcess, url: str) -> None:
    with pytest.raises(RequestRejected, match="model store") as caught:
        server.management.register(url)
    assert caught.value.code == "url_not_allowed"


def test_archives_outside_the_store_are_not_loaded(
    server: TorchServeProcess, archives: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.mar"
    outside.write_bytes((archives / "canned2.mar").read_bytes())
    for url in (str(outside), f"file:{outside}", f"../{outside.name}", "no_such.mar"):
        with pytest.raises(ModelNotFound):
            server.management.register(url, model_name="outside")


def test_the_gap_that_config_properties_admits_is_still_there(
    server: TorchServeProcess, archives: Path, tmp_path: Path
) -> None:
    """If this fails, TorchServe was mended: take the warning out of config.properties."""
    with zipfile.ZipFile(archives / "canned2.mar") as archive:
        archive.extractall(tmp_path / "unpacked")
    server.management.register(str(tmp_path / "unpacked"), model_name="gap", initial_workers=0)
    server.management.unregister("gap")


def test_registering_twice_is_a_conflict(server: TorchServeProcess) -> None:
    with pytest.raises(RequestRejected, match="already registered") as caught:
        server.management.register("canned.mar", model_name="canned")
    assert caught.value.status == 409


def test_workers_that_die_are_told_from_workers_that_load(server: TorchServeProcess) -> None:
    with pytest.raises(WorkersNotReady, match=r"keep dying.*dying 1.0 was unregistered again"):
        server.management.register("dying.mar", model_name="dying")
    assert "dying" not in server.management.list_models()


def test_a_registration_that_does_not_wait(server: TorchServeProcess) -> None:
    described = server.management.register("canned2.mar", model_name="soon", ready_seconds=0)
    try:
        assert (described.name, described.version) == ("soon", "2.0")
        assert not described.is_ready
        with pytest.raises(WorkersNotReady, match="not READY after 0 s: 0 of 1"):
            server.management.wait_ready("soon", timeout=0)
    finally:
        server.management.unregister("soon", drain_seconds=0)


def test_management_asks_for_its_own_token(server: TorchServeProcess) -> None:
    for token in (None, server.inference_token):
        with (
            ManagementClient(server.management_address, token=token) as client,
            pytest.raises(AuthorizationError, match="management token"),
        ):
            client.list_models()


def test_the_commands_of_the_page_renew_both_tokens(server: TorchServeProcess) -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    (block,) = re.findall(r"```bash\n(for kind in .*?)```", page, re.DOTALL)
    before = server.inference_token, server.management_token
    subprocess.run(
        ["bash", "-euc", block.replace("http://127.0.0.1:8081", server.management_address)],
        cwd=server.directory,
        check=True,
    )
    after = server.inference_token, server.management_token
    assert not {*before} & {*after}
    assert server.http.ping() == "Healthy"
    assert server.management.list_models()


def test_a_key_of_another_server_renews_nothing(server: TorchServeProcess) -> None:
    with pytest.raises(AuthorizationError, match="refused the API key that was given"):
        server.management.renew_token("inference", api_key="of-another")


def test_errors_name_the_management_address_that_there_is(server: TorchServeProcess) -> None:
    for client in (server.http, server.grpc):
        with pytest.raises(ModelNotFound, match=f"address {server.management_address}"):
            client.predict("unknown", b"1")


def test_only_the_metrics_address_is_open(server: TorchServeProcess) -> None:
    assert httpx.get(f"{server.metrics_address}/metrics").status_code == 200
    assert httpx.get(f"{server.inference_address}/ping").status_code == 400
