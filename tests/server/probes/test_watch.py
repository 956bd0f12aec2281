"""Probes over HTTP from start to end, of a stand-in for TorchServe that hangs, refuses and dies."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from d2serve.client.errors import ServerStartError
from d2serve.server.probes import server as probing
from d2serve.server.probes.answers import MOST_CONNECTIONS
from d2serve.server.probes.server import ProbeServer
from d2serve.server.probes.watch import ServerWatch
from d2serve.server.torchserve.config.ports import Ports

HANG_SECONDS = 1.5


@dataclass
class StandIn:
    """What a TorchServeProcess is to the probes, with a management API that does as it is told."""

    directory: Path
    models: list[str]
    java: subprocess.Popen[bytes]
    is_draining: bool = False
    launcher_runs: bool = True
    ready: int = 1
    refuses: bool = False
    silent: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    management_address: str = ""

    @property
    def key_file(self) -> Path:
        return self.directory / "key_file.json"

    def is_running(self) -> bool:
        return self.launcher_runs

    def answer(self, path: str) -> tuple[int, Any]:
        self.asked.append(path)
        if self.silent.is_set():
            time.sleep(3)
        if path.startswith("/token"):
            self.refuses = False
            return 200, {}
        if self.refuses:
            return 400, {"code": 400, "type": "InvalidKeyException", "message": "expired"}
        if path.startswith("/models?"):
            return 200, {"models": [{"modelName": "m", "modelUrl": "m.mar"}]}
        workers = [
            {"id": "9000", "status": "READY", "pid": 1, "gpu": False, "memoryUsage": 0}
        ] * self.ready
        described = {
            "modelName": "m",
            "modelVersion": "1.0",
            "modelUrl": "m.mar",
            "minWorkers": 1,
            "maxWorkers": 1,
            "batchSize": 1,
            "maxBatchDelay": 1,
            "workers": workers,
            "jobQueueStatus": {"pendingRequests": 0},
        }
        return 200, [described]


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    java = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    made = StandIn(tmp_path, ["m"], java)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / ".model_server.pid").write_text(str(java.pid))
    key = {"key": "k", "expiration time": "2999-01-01T00:00:00Z"}
    made.key_file.write_text(json.dumps({"management": key, "inference": key, "API": {"key": "a"}}))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = made.answer(self.path)
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    api = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.daemon_threads = True
    made.management_address = f"http://127.0.0.1:{api.server_port}"
    threading.Thread(target=api.serve_forever, daemon=True).start()
    yield made
    api.shutdown()
    api.server_close()
    java.kill()
    java.wait()


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProbeServer]:
    monkeypatch.setattr(probing, "ServerWatch", lambda: ServerWatch(HANG_SECONDS))
    ports = Ports.free()
    with ProbeServer("127.0.0.1", ports.metrics, Ports()) as running:
        yield running


def ask(probes: ProbeServer, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    assert probes.address is not None
    connection = http.client.HTTPConnection(probes.address.partition("//")[2], timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    finally:
        connection.close()


def raw(probes: ProbeServer, sent: bytes) -> bytes:
    """What comes back for these bytes, to the end of the connection."""
    assert probes.address is not None
    host, port = probes.address.partition("//")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
        return received


READY, LIVE = (200, {"status": "ready"}), (200, {"status": "live"})


def not_ready(reason: str) -> tuple[int, dict[str, Any]]:
    return 503, {"status": "not ready", "reasons": [reason]}


def serving(probes: ProbeServer, stand_in: StandIn) -> None:
    probes.watch.serving(stand_in)  # type: ignore[arg-type]


class TestLife:
    def test_from_start_to_end(self, probes: ProbeServer, stand_in: StandIn) -> None:
        assert ask(probes, "/ready") == not_ready("starting")
        assert ask(probes, "/live") == LIVE
        probes.watch.starting("loading m")
        assert ask(probes, "/ready") == not_ready("starting: loading m")
        serving(probes, stand_in)
        assert ask(probes, "/ready") == READY
        stand_in.is_draining = True
        assert ask(probes, "/ready") == not_ready("draining"), "at once, though READY is known"
        assert ask(probes, "/live") == LIVE
        probes.watch.stopping()
        stand_in.launcher_runs = False
        assert ask(probes, "/ready") == not_ready("stopping")
        assert ask(probes, "/live") == LIVE, "to the end"

    def test_a_lost_worker(self, probes: ProbeServer, stand_in: StandIn) -> None:
        serving(probes, stand_in)
        stand_in.ready = 0
        time.sleep(0.6)
        assert ask(probes, "/ready") == not_ready("m 1.0: 0 of 1 workers are READY")
        assert ask(probes, "/live") == LIVE
        stand_in.ready = 1
        time.sleep(0.6)
        assert ask(probes, "/ready") == READY

    def test_dead_processes(self, probes: ProbeServer, stand_in: StandIn) -> None:
        serving(probes, stand_in)
        stand_in.java.kill()  # and nobody waits for it: a zombie
        time.sleep(0.2)
        dead = "TorchServe's Java has ended"
        assert ask(probes, "/ready") == not_ready(dead)
        assert ask(probes, "/live") == (503, {"status": "not live", "reasons": [dead]})
        stand_in.java.wait()
        assert ask(probes, "/live")[0] == 503
        stand_in.launcher_runs = False
        assert ask(probes, "/live")[1]["reasons"] == ["TorchServe's launcher has ended"]
        probes.watch.stopping()
        assert ask(probes, "/live")[0] == 503, "it was not we who ended it"

    def test_a_server_that_hangs_is_unready_soon_and_dead_later(
        self, probes: ProbeServer, stand_in: StandIn
    ) -> None:
        serving(probes, stand_in)
        stand_in.silent.set()
        hang = time.monotonic()
        assert ask(probes, "/live") == LIVE
        while ask(probes, "/ready") == READY:
            assert time.monotonic() - hang < 10
        assert "has not answered for" in ask(probes, "/ready")[1]["reasons"][0]
        asked = time.monotonic()
        for _ in range(20):
            ask(probes, "/ready")
        assert time.monotonic() - asked < 1, "nobody waits for what hangs"
        assert time.monotonic() - hang > HANG_SECONDS
        assert "has not answered for" in ask(probes, "/live")[1]["reasons"][0]
        stand_in.silent.clear()
        while ask(probes, "/ready") != READY:
            assert time.monotonic() - hang < 30
        assert ask(probes, "/live") == LIVE

    def test_a_token_that_nobody_renewed(self, probes: ProbeServer, stand_in: StandIn) -> None:
        serving(probes, stand_in)
        stand_in.refuses = True
        time.sleep(0.6)
        deadline = time.monotonic() + 10
        while not any(path.startswith("/token") for path in stand_in.asked):
            assert time.monotonic() < deadline
            ask(probes, "/ready")
        assert ask(probes, "/ready") == READY


class TestAnswers:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("HEAD", "/live", 200),
            ("HEAD", "/ready", 503),
            ("HEAD", "/nothing", 404),
            ("GET", "/live?verbose=1", 200),
            ("GET", "/live/", 404),
            ("GET", "/", 404),
            ("POST", "/live", 405),
            ("DELETE", "/ready", 405),
        ],
    )
    def test_methods_and_paths(
        self, probes: ProbeServer, method: str, path: str, status: int
    ) -> None:
        answered, body = ask(probes, path, method)
        assert answered == status
        assert bool(body) == (method != "HEAD")

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"GET /live HTTP/1.0\r\n\r\n", b"200 OK"),
            (b"GET /live HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nnine byte", b"200 OK"),
            (b"GET /live\r\n\r\n", b"400 Bad Request"),
            (b"\r\n\r\n", b"400 Bad Request"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400 Bad Request"),
            (b"\xff\xfe\x00 \x80 HTTP/1.1\r\n\r\n", b"404 Not Found"),
            (b"GET /live HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431 "),
        ],
    )
    def test_whatever_is_sent(self, probes: ProbeServer, sent: bytes, status: bytes) -> None:
        assert raw(probes, sent).startswith(b"HTTP/1.1 " + status)

    def test_half_a_request_is_cut_off(self, probes: ProbeServer) -> None:
        begun = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert raw(probes, b"GET /live HTTP/1.1\r\n") == b""
        assert time.monotonic() - begun < 6

    def test_idle_connections_keep_nobody_out(self, probes: ProbeServer) -> None:
        assert probes.address is not None
        host, port = probes.address.partition("//")[2].split(":")
        idle = [
            socket.create_connection((host, int(port)), timeout=10)
            for _ in range(3 * MOST_CONNECTIONS)
        ]
        try:
            asked = time.monotonic()
            assert ask(probes, "/live") == LIVE
            assert time.monotonic() - asked < 2
        finally:
            for connection in idle:
                connection.close()

    def test_many_probers_are_one_question(self, probes: ProbeServer, stand_in: StandIn) -> None:
        serving(probes, stand_in)
        time.sleep(0.6)
        before = len(stand_in.asked)
        with ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(lambda _: ask(probes, "/ready"), range(200)))
        assert answers == [READY] * 200
        assert len(stand_in.asked) - before < 40, "two requests for each half second"


class TestAddress:
    def test_a_port_that_is_taken_names_the_option(self) -> None:
        port = Ports.free().metrics
        with (
            ProbeServer("127.0.0.1", port, Ports()),
            pytest.raises(ServerStartError, match=r"--probe-port …, 0 for none"),
            ProbeServer("127.0.0.1", port, Ports()),
        ):
            pass

    def test_another_machines_address(self) -> None:
        with (
            pytest.raises(ServerStartError, match="--probe-host"),
            ProbeServer("192.0.2.77", Ports.free().metrics, Ports()),
        ):
            pass

    @pytest.mark.parametrize("port", [-1, 65_536])
    def test_what_is_no_port(self, port: int) -> None:
        with pytest.raises(ServerStartError, match="0 for none"):
            ProbeServer("127.0.0.1", port, Ports())

    def test_a_port_of_torchserve(self) -> None:
        with pytest.raises(ServerStartError, match=r"8081.*management"):
            ProbeServer("127.0.0.1", 8081, Ports())

    def test_none_is_answered_at_port_0(self, stand_in: StandIn) -> None:
        with ProbeServer("127.0.0.1", 0, Ports()) as probes:
            assert probes.address is None
            serving(probes, stand_in)
            probes.watch.stopping()

    def test_both_kinds_of_addresses(self) -> None:
        if not socket.has_dualstack_ipv6():
            pytest.skip("this machine has no IPv6")
        port = Ports.free().metrics
        with ProbeServer("::", port, Ports()) as probes:
            assert probes.address == f"http://[::]:{port}"
            for host in ("127.0.0.1", "::1"):
                connection = http.client.HTTPConnection(host, port, timeout=5)
                connection.request("GET", "/live")
                assert connection.getresponse().status == 200
                connection.close()
