"""A version is idle when nothing waits in its queue and no worker is busy; what changes versions
waits for that, and loses no request."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from d2serve.client import D2ServeClient
from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.draining import GRACE_SECONDS, STEADY_SECONDS, Load
from d2serve.client.errors import ClientError, ModelNotFound, ServerOverloaded, StillBusy
from d2serve.client.management import ManagementClient
from d2serve.server.torchserve.process import TorchServeProcess
from tests.faults.slow_archives import make_slow_archive

pytestmark = pytest.mark.server

SLOW, OLDER = "slow", "older"
LOAD_SECONDS = 4.0
A_MOMENT = 0.5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServeProcess]:
    """With two workers of ``slow``, which say that they are busy, and of ``older``, which do not.

    One network thread, so that whoever makes it wait makes everybody wait.
    """
    store = tmp_path_factory.mktemp("draining") / "store"
    store.mkdir()
    make_slow_archive(store, SLOW, workers=2)
    make_slow_archive(store, OLDER, workers=2, says=False)
    make_slow_archive(store, "second", "2.0")
    make_slow_archive(store, "late", "3.0", load_seconds=LOAD_SECONDS)
    with TorchServeProcess(
        {SLOW: f"{SLOW}.mar", OLDER: f"{OLDER}.mar"},
        model_store=store,
        overrides={"number_of_netty_threads": "1"},
    ) as running:
        running.http.predict(SLOW, b"0")
        yield running


class Asking:
    """Requests in threads of their own."""

    def __init__(self, server: TorchServeProcess) -> None:
        self._pool = ThreadPoolExecutor(20)
        self._client = D2ServeClient(
            server.inference_address, key_file=server.key_file, retry=NO_RETRY, timeout=60
        )

    def ask(self, seconds: float, name: str = SLOW, version: str | None = None) -> Future[str]:
        """What came of a request that takes so many seconds: "answered" or the kind of error."""

        def outcome() -> str:
            try:
                self._client.predict(name, str(seconds).encode(), version=version)
            except ClientError as error:
                return type(error).__name__
            return "answered"

        return self._pool.submit(outcome)

    def close(self) -> None:
        self._pool.shutdown()
        self._client.close()


@pytest.fixture
def asking(server: TorchServeProcess) -> Iterator[Asking]:
    asking = Asking(server)
    yield asking
    asking.close()


@pytest.fixture
def management(server: TorchServeProcess) -> ManagementClient:
    return server.management


def outcomes(asked: list[Future[str]]) -> Counter[str]:
    return Counter(each.result(60) for each in asked)


def test_one_at_rest_is_idle_soon(server: TorchServeProcess) -> None:
    began = time.monotonic()
    assert server.management.wait_idle(SLOW, 20)
    assert time.monotonic() - began < STEADY_SECONDS + 1.5
    with pytest.raises(ModelNotFound):
        server.management.wait_idle("unknown", 20)


def test_one_request_in_one_of_two_workers_is_seen(
    management: ManagementClient, asking: Asking
) -> None:
    asked = asking.ask(3)
    time.sleep(A_MOMENT)
    assert management.describe(SLOW)[0].pending_requests == 0
    assert not management.wait_idle(SLOW, 1)
    assert not asked.done()
    assert management.wait_idle(SLOW, 30)
    assert asked.done()
    assert asked.result() == "answered"


def test_a_queue_is_waited_for(management: ManagementClient, asking: Asking) -> None:
    asked = [asking.ask(0.7) for _ in range(8)]
    time.sleep(A_MOMENT)
    assert management.wait_idle(SLOW, 60, version="1.0")
    assert all(each.done() for each in asked)
    assert outcomes(asked) == {"answered": 8}


@pytest.mark.long
def test_a_request_that_waits_for_others_of_its_batch_is_seen(
    management: ManagementClient, asking: Asking
) -> None:
    """It has left the queue, and no worker has it yet."""
    management.register(f"{SLOW}.mar", model_name="batched", batch_size=4, max_batch_delay=20_000)
    asked = asking.ask(1, "batched")
    time.sleep(A_MOMENT)
    assert management.describe("batched")[0].pending_requests == 0
    assert management.wait_idle("batched", 60)
    assert asked.done()
    assert asked.result() == "answered"
    management.unregister("batched")


@pytest.mark.long
def test_a_killed_worker_is_not_waited_for(management: ManagementClient, asking: Asking) -> None:
    asked = asking.ask(60)
    time.sleep(A_MOMENT)
    assert management.metadata(SLOW)["workers"] == {"others": 1, "busy": 1}
    for worker in management.describe(SLOW)[0].workers:
        os.kill(worker.pid, signal.SIGKILL)
    assert management.wait_idle(SLOW, 30)
    assert asked.result(30) != "answered"
    management.wait_ready(SLOW, 120)
    assert management.metadata(SLOW)["workers"] == {"others": 1, "busy": 0}


@pytest.mark.long
def test_of_an_older_archive_the_queue_has_to_be_empty_for_longer(
    management: ManagementClient, asking: Asking
) -> None:
    asked = [asking.ask(1, OLDER) for _ in range(3)]
    began = time.monotonic()
    time.sleep(A_MOMENT)
    assert management.wait_idle(OLDER, 60)
    assert time.monotonic() - began > GRACE_SECONDS
    assert all(each.done() for each in asked)
    assert outcomes(asked) == {"answered": 3}


@pytest.mark.long
def test_all_of_a_server_are_waited_for(server: TorchServeProcess, asking: Asking) -> None:
    """Also what is registered and asked meanwhile. Nothing keeps it from going on."""
    loads: list[Load] = []
    over = threading.Event()

    def ask_until_over() -> str:
        while asking.ask(0.5).result(60) == "answered" and not over.is_set():
            pass
        return "over"

    pool = ThreadPoolExecutor(4)
    others = [pool.submit(ask_until_over) for _ in range(3)]
    time.sleep(A_MOMENT)
    seen = [server.is_draining]
    draining = pool.submit(server.drain, 300, loads.append)
    time.sleep(A_MOMENT)
    assert [*seen, server.is_draining] == [False, True]
    server.management.register("second.mar", model_name="meanwhile")
    asked = asking.ask(3, "meanwhile")
    time.sleep(A_MOMENT)
    assert not draining.done()
    over.set()
    assert draining.result(60)
    assert asked.done()
    assert outcomes([asked, *others]) == {"answered": 1, "over": 3}
    assert max(load.busy for load in loads) >= 1
    server.management.unregister("meanwhile")
    assert not server.drain(0)


def test_deleting_a_version_loses_nothing_of_its_queue(
    management: ManagementClient, asking: Asking
) -> None:
    """As in an upgrade: another version is the default, and eight requests to the old one are under
    way. TorchServe itself never answers those that wait."""
    management.register("second.mar", model_name="old_and_new")
    management.register(f"{SLOW}.mar", model_name="old_and_new")
    asked = [asking.ask(0.5, "old_and_new", "2.0") for _ in range(8)]
    time.sleep(A_MOMENT)
    management.set_default("old_and_new", "1.0")
    with pytest.raises(StillBusy, match=r"old_and_new 2.0 was not idle within 0.5 s.*[1-9]"):
        management.unregister("old_and_new", "2.0", drain_seconds=0.5)
    management.unregister("old_and_new", "2.0")
    assert all(each.done() for each in asked)
    assert outcomes(asked) == {"answered": 8}
    management.unregister("old_and_new", drain_seconds=0)


def test_scaling_down_loses_nothing(management: ManagementClient, asking: Asking) -> None:
    """TorchServe itself never answers what waits when the last worker ends, and fails now and then
    what a worker is answering when it ends."""
    try:
        for workers in (1, 0):
            asked = [asking.ask(0.7) for _ in range(6)]
            time.sleep(A_MOMENT)
            described = management.scale(SLOW, min_worker=workers)
            assert len(described.workers) == workers
            assert outcomes(asked) == {"answered": 6}
        assert asking.ask(0).result(60) == ServerOverloaded.__name__
    finally:
        assert management.scale(SLOW, min_worker=2).is_ready


@pytest.mark.long
def test_nobody_waits_while_another_version_is_registered(
    server: TorchServeProcess, management: ManagementClient
) -> None:
    """With synchronous=true TorchServe waits on the thread that all of these connections share."""
    slowest = [0.0] * 6
    over = threading.Event()

    def ask(number: int) -> None:
        with D2ServeClient(server.inference_address, key_file=server.key_file) as client:
            while not over.is_set():
                began = time.monotonic()
                client.predict(SLOW, b"0")
                slowest[number] = max(slowest[number], time.monotonic() - began)
                time.sleep(0.05)

    with ThreadPoolExecutor(len(slowest)) as pool:
        asked = [pool.submit(ask, number) for number in range(len(slowest))]
        try:
            time.sleep(A_MOMENT)
            began = time.monotonic()
            assert management.register("late.mar", model_name=SLOW).is_ready
            took = time.monotonic() - began
            management.scale(SLOW, min_worker=2, version="3.0")
        finally:
            over.set()
        for each in asked:
            each.result(60)
    management.unregister(SLOW, "3.0")
    assert took > LOAD_SECONDS
    assert max(slowest) < took / 2, slowest
