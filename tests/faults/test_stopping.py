"""``d2serve serve`` is told to stop while it answers: what was asked is answered first."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from d2serve.client import D2ServeClient, D2ServeGrpcClient
from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.errors import ClientError, ServerUnavailable
from d2serve.server.torchserve.launch import java_pid
from d2serve.server.torchserve.process import TorchServeProcess
from tests.faults.conftest import Operator, wait_for, wait_until_serving
from tests.faults.slow_archives import make_slow_archive

NAME = "slow"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that two workers serve."""
    store = tmp_path_factory.mktemp("slow") / "store"
    store.mkdir()
    return make_slow_archive(store, NAME, workers=2)


class Clients:
    """Sends requests that take a given time, each in a thread of its own."""

    def __init__(self, operator: Operator, pool: ThreadPoolExecutor) -> None:
        key = operator.folder / "key_file.json"
        self._pool = pool
        self._http = D2ServeClient(
            f"127.0.0.1:{operator.ports.inference}", key_file=key, retry=NO_RETRY
        )
        self._grpc = D2ServeGrpcClient(
            f"127.0.0.1:{operator.ports.grpc_inference}", key_file=key, retry=NO_RETRY
        )
        for client in (self._http, self._grpc):  # connections, and gRPC's stubs
            client.predict(NAME, b"0")

    def ask(self, seconds: float, *, over_grpc: bool = False) -> Future[str]:
        """What came of it: "answered", or the kind of error."""
        client = self._grpc if over_grpc else self._http

        def outcome() -> str:
            try:
                client.predict(NAME, str(seconds).encode())
            except ClientError as error:
                return type(error).__name__
            return "answered"

        return self._pool.submit(outcome)

    def close(self) -> None:
        self._http.close()
        self._grpc.close()


@contextmanager
def clients_of(operator: Operator) -> Iterator[Clients]:
    with ThreadPoolExecutor(20) as pool:
        clients = Clients(operator, pool)
        yield clients
    clients.close()


def test_nothing_that_was_asked_is_lost(operator: Operator, slow: Path) -> None:
    """Eight requests, in the workers and in the queue, one that comes meanwhile, and the last one
    alone in a worker while the queue is empty and the other worker is free."""
    serving = operator.start(*operator.serve(str(slow)))
    wait_until_serving(serving)
    with clients_of(operator) as clients:
        asked = [clients.ask(1.5, over_grpc=bool(i % 2)) for i in range(7)]
        time.sleep(0.5)
        asked.append(clients.ask(3.0))
        time.sleep(0.5)
        serving.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        assert serving.poll() is None
        asked.append(clients.ask(0.1))
        assert Counter(each.result(60) for each in asked) == {"answered": 9}
        answered = time.monotonic()
    output, errors = serving.communicate(timeout=60)
    assert serving.returncode == 0, errors
    assert time.monotonic() - answered < 20
    assert "requests; Ctrl-C again to stop at once" in errors
    assert errors.rstrip().endswith("Stopped.")
    assert "Traceback" not in output + errors
    assert operator.processes() == []


def test_one_request_in_a_worker_is_answered_and_a_second_signal_does_not_wait(
    operator: Operator, slow: Path
) -> None:
    serving = operator.start(*operator.serve(str(slow)))
    wait_until_serving(serving)
    with clients_of(operator) as clients:
        short, long = clients.ask(2.0), clients.ask(60.0, over_grpc=True)
        time.sleep(0.5)
        serving.send_signal(signal.SIGINT)
        assert short.result(60) == "answered"
        assert serving.poll() is None
        began = time.monotonic()
        serving.send_signal(signal.SIGINT)
        assert long.result(60) == "ServerUnavailable"
        _, errors = serving.communicate(timeout=60)
    assert time.monotonic() - began < 20, "not the 60 s of the request, nor the 30 of the drain"
    assert serving.returncode == 0
    assert "Stopping at once." in errors
    assert operator.processes() == []


@pytest.mark.long
def test_the_wait_has_an_end(operator: Operator, slow: Path) -> None:
    serving = operator.start(*operator.serve("--drain-seconds=2", str(slow)))
    wait_until_serving(serving)
    with clients_of(operator) as clients:
        asked = [clients.ask(60.0), clients.ask(60.0), clients.ask(60.0)]
        time.sleep(0.5)
        began = time.monotonic()
        serving.send_signal(signal.SIGTERM)
        assert {each.result(60) for each in asked} == {"ServerUnavailable"}
        assert time.monotonic() - began > 2
    _, errors = serving.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert "3 requests were not answered within 2 s, and lost: --drain-seconds" in errors
    wait_for(lambda: operator.processes() == [])


@pytest.mark.long
@pytest.mark.server
@pytest.mark.parametrize("over", ["HTTP", "gRPC"])
def test_torchserve_itself_waits_for_grpc_only(slow: Path, over: str) -> None:
    """What docs/running.md says of it. If this fails, TorchServe was mended."""
    with TorchServeProcess([str(slow)]) as server, ThreadPoolExecutor(1) as pool:
        for client in (server.http, server.grpc):
            client.predict(NAME, b"0")
        java = java_pid(server.directory)
        assert java is not None
        client = server.http if over == "HTTP" else server.grpc
        asked = pool.submit(client.predict, NAME, b"4")
        time.sleep(1)
        os.kill(java, signal.SIGTERM)
        if over == "gRPC":
            assert server.http.predict(NAME, b"0").model == NAME, "as long as gRPC is waited for"
            assert asked.result(60).model == NAME
        else:
            with pytest.raises(ServerUnavailable):
                asked.result(60)


@pytest.mark.long
@pytest.mark.server
def test_torchserve_itself_loses_nothing_once_it_is_idle(slow: Path) -> None:
    with TorchServeProcess([str(slow)]) as server, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(server.http.predict, NAME, b"1.5") for _ in range(4)]
        time.sleep(0.7)
        assert server.management.wait_idle(NAME, 30, version="all")
        java = java_pid(server.directory)
        assert java is not None
        os.kill(java, signal.SIGTERM)
        assert [each.result(60).model for each in asked] == [NAME] * 4
