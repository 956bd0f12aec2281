"""Encrypted servers and their authorities, and tokens, which do not leave this machine in clear."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from d2serve.client.connection.settings import Connection
from d2serve.client.errors import InsecureConnection, InvalidInput, NotConnected
from d2serve.client.management import ManagementClient
from d2serve.client.predict.async_client import AsyncD2ServeClient
from d2serve.client.predict.grpc_client import D2ServeGrpcClient
from d2serve.client.predict.http_client import D2ServeClient
from tests.client.answers import GOOD, Answer, Identity, http_server
from tests.client.protocols import Protocol

AWAY = "192.0.2.1:443"  # an address that belongs to nobody: RFC 5737
CLIENTS: list[Any] = [D2ServeClient, AsyncD2ServeClient, D2ServeGrpcClient, ManagementClient]
SECRETS: list[dict[str, Any]] = [
    {"token": "t"},
    {"key_file": "key_file.json"},
    {"headers": {"Authorization": "Bearer t"}},
    {"headers": {"X-Api-Key": "t"}},
]


def made(folder: Path, name: str, names: str = "IP:127.0.0.1") -> Identity:
    """A self-signed certificate, which is its own authority."""
    identity = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"]
    files = ["-keyout", str(identity.key), "-out", str(identity.certificate)]
    subprocess.run([*command.split(), *subject, *files], check=True, capture_output=True)
    return identity


def signed_by_an_authority(folder: Path) -> Identity:
    """A certificate for 127.0.0.1 that is no authority, without that of its authority."""
    authority = made(folder, "authority")
    signed = Identity(folder / "signed.pem", folder / "signed.key")
    request, extension = folder / "signed.csr", folder / "extension"
    extension.write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    commands = (
        f"req -new -newkey rsa:2048 -nodes -subj /CN=signed -keyout {signed.key} -out {request}",
        f"x509 -req -in {request} -CA {authority.certificate} -CAkey {authority.key} "
        f"-CAcreateserial -days 2 -extfile {extension} -out {signed.certificate}",
    )
    for command in commands:
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    return signed


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return made(tmp_path_factory.mktemp("identity"), "server")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return made(tmp_path_factory.mktemp("stranger"), "stranger")


def test_an_encrypted_server_gets_image_token_and_headers(
    protocol: Protocol, identity: Identity
) -> None:
    with protocol.server(GOOD, identity=identity) as asked:
        client = protocol.client(
            f"https://{asked.address}",
            ca_file=identity.certificate,
            headers={"X-Tenant": "blue"},
        )
        assert client.predict("m", b"image").model == "m"
    (headers,) = asked.headers
    assert headers["authorization"] == "Bearer t"
    assert headers["x-tenant"] == "blue"


def test_a_server_of_another_authority_gets_nothing(
    protocol: Protocol, identity: Identity, stranger: Identity
) -> None:
    with protocol.server(GOOD, identity=identity) as asked:
        for trusted in (stranger.certificate, None):
            client = protocol.client(f"https://{asked.address}", ca_file=trusted)
            with pytest.raises(NotConnected, match=r"--ca-file"):
                client.predict("m", b"image")
    assert asked.headers == []


def test_a_certificate_of_another_name(protocol: Protocol, identity: Identity) -> None:
    with protocol.server(GOOD, identity=identity) as asked:
        address = f"https://localhost:{asked.address.split(':')[1]}"
        with pytest.raises(NotConnected, match="for another name"):
            protocol.client(address, ca_file=identity.certificate).predict("m", b"image")
    assert asked.headers == []


def test_the_name_of_the_certificate_can_be_given(protocol: Protocol, tmp_path: Path) -> None:
    named = made(tmp_path, "named", "DNS:models.example.com")
    with protocol.server(GOOD, identity=named) as asked:
        client = protocol.client(
            f"https://{asked.address}",
            ca_file=named.certificate,
            server_name="models.example.com",
        )
        assert client.predict("m", b"image").model == "m"
        other = protocol.client(
            f"https://{asked.address}", ca_file=named.certificate, server_name="example.com"
        )
        with pytest.raises(NotConnected, match="for another name"):
            other.predict("m", b"image")


def test_the_certificate_itself_can_be_trusted_whoever_signed_it(
    protocol: Protocol, tmp_path: Path
) -> None:
    signed = signed_by_an_authority(tmp_path)
    with protocol.server(GOOD, identity=signed) as asked:
        client = protocol.client(f"https://{asked.address}", ca_file=signed.certificate)
        assert client.predict("m", b"image").model == "m"


def test_managing_by_the_name_of_the_certificate(tmp_path: Path) -> None:
    named = made(tmp_path, "named", "DNS:models.example.com")
    with (
        http_server(Answer(200, b'{"models": []}'), identity=named) as asked,
        ManagementClient(
            f"https://{asked.address}",
            ca_file=named.certificate,
            server_name="models.example.com",
        ) as client,
    ):
        assert client.list_models() == {}


def test_a_server_that_does_not_encrypt_is_named(protocol: Protocol) -> None:
    with protocol.server(GOOD) as asked, pytest.raises(NotConnected, match="does not encrypt"):
        protocol.client(f"https://{asked.address}").predict("m", b"image")
    assert asked.headers == []


def test_the_management_api_over_tls(identity: Identity) -> None:
    listed = {"models": [{"modelName": "m", "modelUrl": "m.mar"}]}
    with http_server(Answer(200, json.dumps(listed).encode()), identity=identity) as asked:
        settings: dict[str, Any] = {"ca_file": identity.certificate, "headers": {"X-Tenant": "b"}}
        with ManagementClient(f"https://{asked.address}", token="t", **settings) as client:
            assert client.list_models() == {"m": "m.mar"}
    (headers,) = asked.headers
    assert (headers["authorization"], headers["x-tenant"]) == ("Bearer t", "b")


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("secret", SECRETS, ids=str)
def test_a_token_does_not_leave_this_machine_in_clear(client: Any, secret: dict[str, Any]) -> None:
    for address in (AWAY, f"http://{AWAY}"):
        with pytest.raises(InsecureConnection, match=rf"https://{AWAY}.*allow_token_in_clear"):
            client(address, **secret)
        client(address, allow_token_in_clear=True, **secret)
    client(f"https://{AWAY}", **secret)
    client("localhost:1", **secret)


@pytest.mark.parametrize("client", CLIENTS)
def test_without_a_token_any_address_may_be_asked(client: Any) -> None:
    client(AWAY)
    client(AWAY, headers={"x-tenant": "blue"})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"address": "ftp://host:1"}, "https://host:port for a server that encrypts"),
        ({"address": "host:port"}, "'host:port', expected host:port"),
        ({"address": "http://"}, "expected host:port"),
        ({"address": "https://user:secret@host"}, "Give a token by `token`"),
        ({"ca_file": "ca.pem"}, r"Expected an address that begins with https: https://host:1"),
        ({"server_name": "h"}, r"Got server_name.*begins with https: https://host:1"),
        ({"headers": {"a b": "c"}}, "'a b', whose name or value cannot be sent"),
        ({"headers": {"a": "c\n"}}, "'a', whose name or value cannot be sent"),
        ({"headers": {"Content-Type": "c"}}, "'Content-Type', which the client itself sets"),
        ({"headers": {"Authorization": "b"}, "token": "t"}, "expected one of them"),
    ],
)
@pytest.mark.parametrize("client", CLIENTS)
def test_wrong_settings_are_named(client: Any, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as caught:
        client(**{"address": "host:1", **settings})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"no certificate"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_file_without_authorities_is_named(
    client: Any, content: bytes | None, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"ca\.pem cannot be used"):
        client("https://host:1", ca_file=file)


def test_grpc_has_no_paths() -> None:
    with pytest.raises(InvalidInput, match="without a path"):
        D2ServeGrpcClient("https://host/prefix")
    assert Connection("inference", "https://host/prefix/").url == "https://host/prefix"
