"""Clients ask through deploy/nginx.conf: ours over HTTP and gRPC, KServe's and Triton's own."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from d2serve.cli.app import app
from d2serve.client import (
    AuthorizationError,
    D2ServeClient,
    D2ServeGrpcClient,
    Prediction,
    RequestRejected,
    ServerOverloaded,
    ServerUnavailable,
)
from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.predict.grpc_stubs import inference_messages
from d2serve.server.torchserve.process import TorchServeProcess
from tests.client.blocking import AnyClient, BlockingAsyncClient
from tests.conftest import ROOT
from tests.deploy.proxy.conftest import NAME
from tests.deploy.proxy.running import KEY, Behind, Proxy, configured, needs_nginx

pytestmark = [pytest.mark.server, pytest.mark.long, needs_nginx]

SAMPLE = ROOT / "examples" / "shapes" / "sample.jpg"
ENGINES = Path(sys.prefix) / ".d2serve" / "engines" / "bin" / "python"
CLIENTS = {"http": D2ServeClient, "async": BlockingAsyncClient, "grpc": D2ServeGrpcClient}


@pytest.fixture(scope="module")
def expected(server: TorchServeProcess) -> Prediction:
    """TorchServe's answer without a proxy."""
    return server.http.predict(NAME, SAMPLE, score_thresh=0.5)


def client_of(kind: str, proxy: Proxy, **settings: Any) -> AnyClient:
    made: AnyClient = CLIENTS[kind](proxy.address, ca_file=proxy.certificate, **settings)
    return made


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("settings", [{"token": KEY}, {"headers": {"X-API-Key": KEY}}])
def test_the_python_clients(
    kind: str, settings: dict[str, Any], proxy: Proxy, expected: Prediction
) -> None:
    client = client_of(kind, proxy, **settings)
    found = client.predict(NAME, SAMPLE, score_thresh=0.5)
    assert found.instances
    assert found.raw["instances"] == expected.raw["instances"]
    with pytest.raises(RequestRejected) as error:
        client.predict(NAME, b"no image")
    assert error.value.code == "unsupported_image_format"


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_key_that_is_not_known(kind: str, proxy: Proxy) -> None:
    with pytest.raises(AuthorizationError, match=r"operator gave out|expected the metadata"):
        client_of(kind, proxy, token="no key").predict(NAME, SAMPLE)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_command_line(protocol: str, proxy: Proxy, expected: Prediction) -> None:
    ran = CliRunner().invoke(
        app,
        [
            *("predict", NAME, str(SAMPLE), "--json", "--header", f"X-API-Key: {KEY}"),
            *("--address", proxy.address, "--ca-file", str(proxy.certificate)),
            *("--protocol", protocol, "--score-thresh", "0.5"),
        ],
    )
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["instances"] == expected.raw["instances"]


def test_too_large_for_grpc(behind: Behind, proxy: Proxy, tmp_path: Path) -> None:
    less = {"client_max_body_size 64m;": "client_max_body_size 1m;"}
    with (
        configured(tmp_path, behind, less) as stricter,
        pytest.raises(RequestRejected, match="longer than the 64 MiB"),
    ):
        client_of("grpc", stricter, token=KEY).predict(NAME, b"\0" * (2 * 1024 * 1024))
    # Of the same limit TorchServe reads it first, at the message's beginning, and says no word.
    with pytest.raises(ServerUnavailable, match="longer than the 64 MiB"):
        client_of("grpc", proxy, token=KEY).predict(NAME, b"\0" * (65 * 1024 * 1024))


def test_other_services_are_not_there(proxy: Proxy) -> None:
    """Neither the management of models nor anything else of gRPC."""
    trusted = grpc.ssl_channel_credentials(proxy.certificate.read_bytes())
    messages = inference_messages()
    with grpc.secure_channel(f"localhost:{proxy.port}", trusted) as channel:
        for service in (
            "org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels",
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ):
            call = channel.unary_unary(
                f"/{service}",
                request_serializer=messages.empty.SerializeToString,
                response_deserializer=messages.health_response.FromString,
            )
            with pytest.raises(grpc.RpcError) as error:
                call(messages.empty(), metadata=(("x-api-key", KEY),), timeout=30)
            assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_nobody_behind_the_proxy(behind: Behind, tmp_path: Path) -> None:
    gone = dataclasses.replace(behind, grpc=1)
    with (
        configured(tmp_path, gone) as proxy,
        pytest.raises(ServerUnavailable, match="does not answer"),
    ):
        client_of("grpc", proxy, token=KEY).predict(NAME, SAMPLE)


def test_a_refused_token_has_grpc_clients_ask_again(behind: Behind, tmp_path: Path) -> None:
    """It is the proxy's and none of the client's business; KServe's asks again at UNAVAILABLE."""
    key_file = tmp_path / "key_file.json"
    key_file.write_text('{"inference": {"key": "ended"}}')
    moved = dataclasses.replace(behind, key_file=key_file)
    folder = tmp_path / "proxy"
    folder.mkdir()
    with configured(folder, moved) as proxy:
        with pytest.raises(ServerOverloaded, match="nothing was begun"):
            client_of("grpc", proxy, token=KEY, retry=NO_RETRY).predict(NAME, SAMPLE)
        shutil.copy(behind.key_file, key_file)
        assert client_of("grpc", proxy, token=KEY).predict(NAME, SAMPLE).instances


FOUND = {
    "kserve": {
        "gRPC": {"live": True, "ready": True, "model is ready": True},
        "HTTP": {"live": True, "ready": True},
    },
    "triton": {
        "gRPC": {
            "live": True,
            "ready": True,
            "model is ready": True,
            "name": NAME,
            "id": "7",
            "refusal": "StatusCode.UNAUTHENTICATED",
            "of raw contents": ["error"],
        },
        "HTTP": {"live": True, "ready": True},
    },
}


@pytest.mark.skipif(
    not ENGINES.exists(),
    reason="needs the clients of KServe and Triton: `make test-all` installs them",
)
@pytest.mark.parametrize("who", FOUND)
def test_clients_of_the_open_inference_protocol(
    who: str, proxy: Proxy, server: TorchServeProcess
) -> None:
    """Over gRPC they call /inference.GRPCInferenceService/, of another name in TorchServe."""
    ran = subprocess.run(
        [
            *(ENGINES, Path(__file__).with_name("oip_clients.py"), who),
            *(f"localhost:{proxy.port}", proxy.certificate, KEY, NAME, SAMPLE),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    got = json.loads(ran.stdout)
    expected = [each.bbox for each in server.http.predict(NAME, SAMPLE).instances]
    for answer in got.values():
        # Of the file, or of its pixels as another JPEG decoder gives them.
        np.testing.assert_allclose(answer.pop("boxes"), expected, atol=0.5)
    assert got == FOUND[who]
