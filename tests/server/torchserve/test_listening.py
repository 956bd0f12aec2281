"""A server that others reach, in clear and encrypted: what is refused before Java starts, and a
real one. This machine reaches itself as others do at 127.0.0.2, which 0.0.0.0 covers."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from d2serve.cli.servers.asking import ways_to_ask
from d2serve.cli.servers.start_page import openness
from d2serve.client import D2ServeClient, D2ServeGrpcClient
from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.errors import AuthorizationError, NotConnected, ServerStartError
from d2serve.server.torchserve.config.identity import read_identity
from d2serve.server.torchserve.config.listening import Listening, listening, listening_by
from d2serve.server.torchserve.config.ports import Ports
from d2serve.server.torchserve.config.properties import read_properties
from d2serve.server.torchserve.config.settings import server_settings
from d2serve.server.torchserve.process import TorchServeProcess
from tests.faults.conftest import MAIN

OTHER_ADDRESS = "127.0.0.2"
NAME = "models.example.com"
RSA = ("-newkey", "rsa:2048")
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def openssl(*arguments: object, says: str | None = None) -> None:
    command = ["openssl", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, text=True, input=says)


@dataclass(frozen=True)
class Files:
    certificate: Path
    key: Path


def made(
    folder: Path,
    name: str,
    kind: Sequence[str] = RSA,
    names: str | None = f"DNS:{NAME},DNS:*.example.com",
    days: int = 2,
) -> Files:
    """A self-signed certificate and its key."""
    files = Files(folder / f"{name}.pem", folder / f"{name}.key")
    extension = [] if names is None else ["-addext", f"subjectAltName={names}"]
    openssl(
        *("req", "-x509", *kind, "-nodes", "-days", days, "-subj", f"/CN={NAME}", *extension),
        *("-keyout", files.key, "-out", files.certificate),
    )
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return made(tmp_path_factory.mktemp("tls"), "server")


class TestIdentity:
    def test_names_and_end_are_those_of_the_certificate(self, files: Files) -> None:
        identity = read_identity(files.certificate, files.key)
        assert identity.names == (NAME, "*.example.com")
        assert identity.name_for("127.0.0.1") == NAME
        assert identity.name_for(NAME) is None
        assert identity.ends.endswith("GMT")

    def test_torchserve_gets_copies_that_only_its_user_reads(
        self, files: Files, tmp_path: Path
    ) -> None:
        settings = read_identity(files.certificate, files.key).write(tmp_path)
        key = Path(settings["private_key_file"])
        assert key.stat().st_mode & 0o777 == 0o600
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings["certificate_file"], key)

    def test_an_older_form_of_the_key_is_rewritten(self, files: Files, tmp_path: Path) -> None:
        old = tmp_path / "old.key"
        openssl("rsa", "-traditional", "-in", files.key, "-out", old)
        assert "BEGIN RSA PRIVATE KEY" in old.read_text()
        written = read_identity(files.certificate, old).write(tmp_path)["private_key_file"]
        assert Path(written).read_text().splitlines() != old.read_text().splitlines()
        new = read_identity(files.certificate, files.key).write(tmp_path)["private_key_file"]
        again = Path(new).read_text()
        assert read_identity(files.certificate, old).write(tmp_path)["private_key_file"] == new
        assert "".join(Path(new).read_text().split()) == "".join(again.split())

    def test_one_file_with_words_around_both(self, files: Files, tmp_path: Path) -> None:
        both = tmp_path / "both.pem"
        both.write_text(
            f"Bag Attributes\n{files.key.read_text()}\n# mine\n{files.certificate.read_text()}\n"
        )
        assert read_identity(both, both).names[0] == NAME

    def test_a_chain_is_kept(self, files: Files, tmp_path: Path) -> None:
        authority = made(tmp_path, "authority", names="DNS:authority")
        chain = tmp_path / "chain.pem"
        chain.write_text(files.certificate.read_text() + authority.certificate.read_text())
        identity = read_identity(chain, files.key)
        written = Path(identity.write(tmp_path)["certificate_file"]).read_text()
        assert written.count("BEGIN CERTIFICATE") == 2
        assert identity.names[0] == NAME

    @pytest.mark.parametrize(
        ("fault", "told"),
        [
            ("missing certificate", r"none\.pem cannot be read \(No such file"),
            ("missing key", r"none\.key cannot be read \(No such file"),
            ("no text", r"certificate\.der cannot be read \(it is no PEM text"),
            ("key as certificate", "has no certificate"),
            ("certificate as key", "has no private key"),
            ("other key", "does not belong to the certificate"),
            ("elliptic key", "is no RSA key, and TorchServe's HTTP takes no other"),
            ("password", "has a password.*openssl pkey -in"),
            ("password, older form", "has a password.*openssl pkey -in"),
            ("no name", "is for no host.*subjectAltName"),
            ("ended", "does not work .certificate has expired"),
            ("short key", "does not work"),
        ],
    )
    def test_what_does_not_work_is_named(
        self, files: Files, tmp_path: Path, fault: str, told: str
    ) -> None:
        with pytest.raises(ServerStartError, match=told):
            read_identity(*faulty(fault, files, tmp_path))


def faulty(fault: str, files: Files, folder: Path) -> tuple[Path, Path]:
    certificate, key, new = files.certificate, files.key, folder / "new"
    if fault == "missing certificate":
        return folder / "none.pem", key
    if fault == "missing key":
        return certificate, folder / "none.key"
    if fault == "no text":
        new = folder / "certificate.der"
        openssl("x509", "-in", certificate, "-outform", "DER", "-out", new)
        return new, key
    if fault == "key as certificate":
        return key, key
    if fault == "certificate as key":
        return certificate, certificate
    if fault == "other key":
        return certificate, made(folder, "other").key
    if fault == "password":
        openssl("pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", new)
        return certificate, new
    if fault == "password, older form":
        openssl(
            *("rsa", "-in", key, "-aes256", "-passout", "pass:secret", "-traditional", "-out", new)
        )
        return certificate, new
    kinds = {
        "elliptic key": lambda: made(folder, "ec", EC),
        "no name": lambda: made(folder, "unnamed", names=None),
        "ended": lambda: expired(folder),
        "short key": lambda: made(folder, "short", ("-newkey", "rsa:512")),
    }
    wrong = kinds[fault]()
    return wrong.certificate, wrong.key


def expired(folder: Path) -> Files:
    """A certificate that ended long ago, signed by itself."""
    files = made(folder, "ended")
    request, extension = folder / "ended.csr", folder / "extension"
    extension.write_text(f"subjectAltName=DNS:{NAME}\n")
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=d\n[d]\n"
        f"database={folder}/index.txt\nserial={folder}/serial\nnew_certs_dir={folder}\n"
        "default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n"
    )
    openssl("req", "-new", "-key", files.key, "-subj", f"/CN={NAME}", "-out", request)
    openssl(
        *("ca", "-batch", "-config", folder / "ca.cnf", "-selfsign", "-keyfile", files.key),
        *("-in", request, "-extfile", extension, "-startdate", "200101000000Z"),
        *("-enddate", "200201000000Z", "-out", files.certificate),
    )
    return files


class TestListening:
    PORTS = Ports()

    def test_nothing_said_is_this_machine_in_clear(self) -> None:
        where = listening(self.PORTS)
        assert where == Listening(self.PORTS, "127.0.0.1", None)
        assert not where.is_open
        settings = where.applied_to(server_settings(None, {}, self.PORTS))
        assert settings["inference_address"] == "http://127.0.0.1:8080"
        assert settings["enable_grpc_ssl"] == "false"

    def test_a_host_opens_predictions_and_nothing_else(self, files: Files) -> None:
        where = listening(self.PORTS, "0.0.0.0", files.certificate, files.key)
        settings = where.applied_to({"keystore": "of/another", "keystore_pass": "x"})
        assert {k: v for k, v in settings.items() if "port" not in k} == {
            "inference_address": "https://0.0.0.0:8080",
            "grpc_inference_address": "0.0.0.0",
            "management_address": "http://127.0.0.1:8081",
            "metrics_address": "http://127.0.0.1:8082",
            "grpc_management_address": "127.0.0.1",
            "enable_grpc_ssl": "true",
        }

    def test_without_tokens_it_stays_on_this_machine(self) -> None:
        with pytest.raises(ServerStartError, match="Expected tokens"):
            TorchServeProcess(host="0.0.0.0", token_auth=False)
        TorchServeProcess(host="127.0.0.2", token_auth=False)

    def test_told_so_it_asks_nobody_and_registers_nothing(self) -> None:
        told = TorchServeProcess(host="0.0.0.0", without_tokens=True, enable_model_api=True)
        assert told.key_file is None
        assert "No token is asked for" in str(openness(told))
        settings = listening(self.PORTS, without_tokens=True).applied_to({})
        assert settings["enable_model_api"] == "false"

    @pytest.mark.parametrize("host", ["::", "localhost", "models.example.com", "1.2.3", ""])
    def test_what_is_no_address_is_named(self, host: str) -> None:
        with pytest.raises(ServerStartError, match="expected an IPv4 address"):
            listening(self.PORTS, host)

    def test_an_address_of_another_machine_is_named(self) -> None:
        with pytest.raises(ServerStartError, match=r"192\.0\.2\.77 is no address of this machine"):
            Ports.free().require_free("192.0.2.77")

    def test_a_port_that_is_taken_elsewhere(self) -> None:
        ports = Ports.free()
        with socket.socket() as taken:
            taken.bind((OTHER_ADDRESS, ports.inference))
            taken.listen()
            ports.require_free()
            with pytest.raises(ServerStartError, match=f"{ports.inference} .inference"):
                ports.require_free("0.0.0.0")

    def test_one_of_certificate_and_key_is_refused(self, files: Files) -> None:
        for given in ((files.certificate, None), (None, files.key)):
            with pytest.raises(ServerStartError, match="expected both or neither"):
                listening(self.PORTS, None, *given)

    @pytest.mark.parametrize(
        ("line", "has_host", "has_tls"),
        [
            ({"inference_address": "http://0.0.0.0:9000"}, True, False),
            ({"inference_address": "https://0.0.0.0:9000"}, True, True),
            ({"inference_address": "https://127.0.0.1:9000"}, False, True),
            ({"grpc_inference_address": "::", "inference_address": "http://x:9000"}, True, False),
            ({"enable_grpc_ssl": "true", "inference_address": "http://[::1]:9000"}, False, True),
        ],
    )
    def test_a_file_may_say_what_the_command_says(
        self, line: dict[str, str], has_host: bool, has_tls: bool
    ) -> None:
        found = Ports.from_settings(line, has_host=has_host, has_tls=has_tls)
        assert found == Ports(inference=9000)
        with pytest.raises(ServerStartError, match=r"--host 0\.0\.0\.0.*--tls-cert"):
            Ports.from_settings(line)

    @pytest.mark.parametrize("key", ["management_address", "metrics_address"])
    def test_managing_stays_on_this_machine(self, key: str) -> None:
        for address in ("http://0.0.0.0:1", "https://127.0.0.1:1"):
            with pytest.raises(ServerStartError, match="always stay there"):
                Ports.from_settings({key: address}, has_host=True, has_tls=True)
        with pytest.raises(ServerStartError, match="always stay there"):
            Ports.from_settings({"grpc_management_address": "0.0.0.0"}, has_host=True)


@pytest.fixture(scope="module")
def encrypted(archives: Path, files: Files) -> Iterator[TorchServeProcess]:
    with TorchServeProcess(
        {"canned": "canned.mar"},
        model_store=archives,
        host="0.0.0.0",
        tls_cert=files.certificate,
        tls_key=files.key,
    ) as server:
        yield server


def test_predictions_are_encrypted_and_open_and_nothing_else(
    encrypted: TorchServeProcess, files: Files
) -> None:
    ports = encrypted.ports
    assert encrypted.http.predict("canned", b"1").model == "canned"
    assert encrypted.grpc.predict("canned", b"1").model == "canned"
    assert encrypted.management.list_models() == {"canned": "canned.mar"}
    for client, port in (
        (D2ServeClient, ports.inference),
        (D2ServeGrpcClient, ports.grpc_inference),
    ):
        address, trusted = f"https://{OTHER_ADDRESS}:{port}", files.certificate
        settings: dict[str, Any] = {"key_file": encrypted.key_file, "retry": NO_RETRY}
        with client(address, ca_file=trusted, server_name=NAME, **settings) as named:
            assert named.predict("canned", b"1").model == "canned"
        with (
            client(address, ca_file=trusted, **settings) as unnamed,
            pytest.raises(NotConnected, match="for another name"),
        ):
            unnamed.predict("canned", b"1")
        with (
            client(address, server_name=NAME, **settings) as trusts_authorities,
            pytest.raises(NotConnected, match="--ca-file"),
        ):
            trusts_authorities.predict("canned", b"1")
        with (
            client(address, ca_file=trusted, server_name=NAME, retry=NO_RETRY) as tokenless,
            pytest.raises(AuthorizationError),
        ):
            tokenless.predict("canned", b"1")
    for port in (ports.management, ports.metrics, ports.grpc_management):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((OTHER_ADDRESS, port), timeout=5)


def test_clear_text_is_not_answered_where_it_is_encrypted(encrypted: TorchServeProcess) -> None:
    ports = encrypted.ports
    clear = httpx.get(f"http://127.0.0.1:{ports.inference}/ping", trust_env=False)
    assert clear.status_code == 403
    assert "only accepts HTTPS" in clear.text
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{ports.grpc_inference}", trust_env=False)


def test_the_commands_that_are_printed_work(encrypted: TorchServeProcess, tmp_path: Path) -> None:
    curl, predict = ways_to_ask(encrypted, "canned", encrypted.key_file)
    port = encrypted.ports.inference
    assert f"--address https://{NAME}:{port} --ca-file " in predict
    (tmp_path / "image.jpg").write_bytes(b"1")
    here = f"curl -sS --fail --noproxy '*' --resolve {NAME}:{port}:127.0.0.1 "
    done = subprocess.run(
        ["bash", "-c", curl.replace("curl ", here, 1)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert '"model": "canned"' in done.stdout, done.stderr
    said = openness(encrypted)
    assert said is not None
    assert f"encrypted, with a certificate for {NAME}" in said


def test_an_upgrade_finds_its_way_by_what_lies_beside_the_key_file(
    encrypted: TorchServeProcess, archives: Path
) -> None:
    where = listening_by(read_properties(encrypted.directory / "config.properties"))
    assert where.inference_address == encrypted.inference_address
    upgrade = ["upgrade", "canned", str(archives / "canned2.mar"), "--keep-old"]
    options = [f"--model-store={archives}", f"--key-file={encrypted.key_file}"]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *upgrade, *options],
        cwd=archives,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2.0 answers" in done.stdout, done.stderr
    assert encrypted.http.predict("canned", b"1").version == "2.0"


@pytest.mark.server
@pytest.mark.long
def test_in_clear_a_token_is_asked_for(archives: Path) -> None:
    with TorchServeProcess(
        {"canned": "canned.mar"}, model_store=archives, host="0.0.0.0"
    ) as server:
        assert server.http.predict("canned", b"1").model == "canned"
        assert server.grpc.predict("canned", b"1").model == "canned"
        ports = server.ports
        ping = f"http://{OTHER_ADDRESS}:{ports.inference}/ping"
        assert httpx.get(ping, trust_env=False).status_code == 400
        with D2ServeGrpcClient(
            f"{OTHER_ADDRESS}:{ports.grpc_inference}", key_file=server.key_file
        ) as grpc:
            assert grpc.ping() == "Healthy"
        for port in (ports.management, ports.metrics, ports.grpc_management):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((OTHER_ADDRESS, port), timeout=5)
        where = listening_by(read_properties(server.directory / "config.properties"))
        assert where == server.listening
        said = openness(server)
        assert said is not None
        assert "in clear text" in said
        assert "IPv6 too" in said
