"""A worker killed under load, and twice as many requests at once as the queue holds."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from d2serve.client import AsyncD2ServeClient, D2ServeClient, D2ServeGrpcClient, Prediction
from d2serve.client.connection.retrying import NO_RETRY, Retry
from d2serve.client.errors import ClientError, ServerFailed, ServerOverloaded
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import ROOT, Exporter
from tests.faults.loading import Asking

_log = logging.getLogger(__name__)  # figures: pytest -o log_cli=true -o log_cli_level=info

pytestmark = pytest.mark.server

SAMPLE = (ROOT / "examples" / "shapes" / "sample.jpg").read_bytes()
NAME = "shapes"
CLIENTS = 4
QUEUE = 20
PATIENT = Retry(seconds=150, first_pause=0.2, longest_pause=4)


@pytest.fixture(scope="module")
def running(exported: Exporter) -> Iterator[TorchServeProcess]:
    """One worker and a short queue."""
    settings = {"default_workers_per_model": "1", "job_queue_size": str(QUEUE)}
    archive = exported("faster_rcnn_fpn", "onnxruntime")  # no torch, so a worker is soon there
    with TorchServeProcess({NAME: archive}, overrides=settings) as server:
        server.http.predict(NAME, SAMPLE)
        yield server


class Load(Asking):
    """Clients that ask again and again, in threads, until they are told to stop."""

    def __init__(self, server: TorchServeProcess, clients: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self._server = server
        super().__init__(
            (threading.Thread(target=self._ask) for _ in range(clients)), threading.Event()
        )

    def _ask(self) -> None:
        server = self._server
        with D2ServeClient(server.inference_address, key_file=server.key_file) as client:
            while not self._over.is_set():
                try:
                    client.predict(NAME, SAMPLE)
                    self.outcomes["answered"] += 1
                except ClientError as error:
                    self.outcomes[type(error).__name__] += 1


def worker_of(server: TorchServeProcess) -> int:
    return server.management.describe(NAME)[0].workers[0].pid


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
def test_a_worker_killed_under_load(kills: int, running: TorchServeProcess) -> None:
    """Only the one request in flight fails (the batch size is 1), and all of them are answered."""
    running.management.scale(NAME, min_worker=0)
    began = time.monotonic()
    running.management.scale(NAME, min_worker=1)
    running.management.wait_ready(NAME, timeout=120)
    load_seconds = time.monotonic() - began
    recoveries = []
    with Load(running, CLIENTS) as load:
        for _ in range(kills):
            before = worker_of(running)
            answered = load.outcomes["answered"]
            os.kill(before, signal.SIGKILL)
            killed = time.monotonic()
            while worker_of(running) in (before, -1):
                time.sleep(0.1)
            running.management.wait_ready(NAME, timeout=120)
            recoveries.append(time.monotonic() - killed)
            while load.outcomes["answered"] < answered + CLIENTS:
                assert time.monotonic() - killed < 120, "it answers again"
                time.sleep(0.05)
    _log.info("load %.1f s, READY again in %.1f s at most", load_seconds, max(recoveries))
    _log.info("outcomes: %s", dict(load.outcomes))
    assert max(recoveries) < load_seconds + 10
    assert set(load.outcomes) <= {"answered", "ServerFailed"}
    assert load.outcomes["ServerFailed"] <= kills
    assert load.outcomes["answered"] >= kills * CLIENTS


def test_a_model_says_whether_its_workers_are_busy(running: TorchServeProcess) -> None:
    management = running.management
    management.scale(NAME, min_worker=2)
    assert management.metadata(NAME)["workers"] == {"others": 1, "busy": 0}
    with Load(running, CLIENTS):
        deadline = time.monotonic() + 60
        while not management.metadata(NAME)["workers"]["busy"]:
            assert time.monotonic() < deadline, "nobody has been busy"
    assert management.wait_idle(NAME, 60)
    assert management.scale(NAME, min_worker=1).is_ready


def test_twice_the_queue_at_once_gives_200_and_503_only(running: TorchServeProcess) -> None:
    headers = {
        "authorization": f"Bearer {running.inference_token}",
        "content-type": "application/octet-stream",
    }

    async def ask_all() -> list[int]:
        url = f"{running.inference_address}/predictions/{NAME}"
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=120, limits=limits, trust_env=False) as client:
            asking = (client.post(url, content=SAMPLE, headers=headers) for _ in range(2 * QUEUE))
            return [answer.status_code for answer in await asyncio.gather(*asking)]

    statuses = Counter(asyncio.run(ask_all()))
    _log.info("statuses: %s", dict(statuses))
    assert set(statuses) == {200, 503}
    assert statuses.total() == 2 * QUEUE
    assert statuses[200] >= QUEUE


@pytest.mark.parametrize("kind", ["http", "async", "grpc"])
def test_the_clients_back_off_finishes_the_rest(running: TorchServeProcess, kind: str) -> None:
    key = running.key_file

    def in_threads(client: D2ServeClient | D2ServeGrpcClient) -> list[Prediction]:
        with client, ThreadPoolExecutor(2 * QUEUE) as pool:
            return list(pool.map(lambda _: client.predict(NAME, SAMPLE), range(2 * QUEUE)))

    async def at_once(retry: Retry) -> list[Prediction]:
        async with AsyncD2ServeClient(
            running.inference_address, key_file=key, retry=retry
        ) as client:
            asking = (client.predict(NAME, SAMPLE) for _ in range(2 * QUEUE))
            return await asyncio.gather(*asking)

    def ask(retry: Retry) -> list[Prediction]:
        if kind == "async":
            return asyncio.run(at_once(retry))
        if kind == "http":
            return in_threads(D2ServeClient(running.inference_address, key_file=key, retry=retry))
        return in_threads(D2ServeGrpcClient(running.grpc_address, key_file=key, retry=retry))

    with pytest.raises(ServerOverloaded):
        ask(NO_RETRY)
    answers = ask(PATIENT)
    assert len(answers) == 2 * QUEUE
    assert {len(answer.instances) for answer in answers} == {len(answers[0].instances)}


def test_a_worker_that_dies_over_a_request_is_an_error_of_its_own(
    running: TorchServeProcess,
) -> None:
    """Not asked again: the image may be what killed it."""
    outcomes: list[object] = []

    def ask() -> None:
        try:
            while True:
                running.http.predict(NAME, SAMPLE)
        except ClientError as error:
            outcomes.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(1)
    for _ in range(5):  # it may be between two requests when it is killed
        os.kill(worker_of(running), signal.SIGKILL)
        asking.join(timeout=20)
        if not asking.is_alive():
            break
        running.management.wait_ready(NAME, timeout=120)
    (error,) = outcomes
    assert isinstance(error, ServerFailed)
    assert "died" in str(error).lower()
    running.management.wait_ready(NAME, timeout=120)
