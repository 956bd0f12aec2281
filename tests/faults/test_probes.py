"""What ``d2serve serve`` answers to probes is true at every moment of a server's life, and needs no
token. The truth is what the management API says at the same moment."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from d2serve.client.connection.credentials import KeyFile
from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.errors import ClientError
from d2serve.client.management import ManagementClient
from tests.client.conftest import make_archive
from tests.faults.conftest import Operator, wait_for, wait_until_serving

POLL_SECONDS = 0.05
SLOW_SECONDS = 4
LAG_SECONDS = 1.5
"""For so long an answer may be behind the truth: it is passed on for half a second, and this
machine is busy."""

# Loads unless a file is there, which a test makes: then it dies as soon as it is started.
MORTAL_HANDLER = """
import os
import time
from pathlib import Path


class MortalHandler:
    def initialize(self, context):
        if Path({flag!r}).exists():
            os._exit(1)

    def handle(self, data, context):
        for item in data:
            if bytes(item.get("data") or item.get("body") or b"") == b"slow":
                time.sleep({slow_seconds})
        return [b"{{}}"] * len(data)
"""


def probe(port: int, path: str, method: str = "GET") -> tuple[int | None, dict[str, Any]]:
    """Status and body of a probe without a token; None where nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    except OSError:
        return None, {}
    finally:
        connection.close()


@dataclass(frozen=True)
class Sample:
    """What was answered and what was true at one moment."""

    at: float
    live: int | None
    ready: int | None
    why: tuple[str, ...]
    seconds: float
    """That the slower of the two probes took."""
    workers: dict[str, str] | None
    """Status of the worker by version; None where the management API did not answer."""


@dataclass
class Timeline:
    """Polls probes and management API from a thread until it is ended."""

    operator: Operator
    samples: list[Sample] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            self.samples.append(self._sample())

    def end(self) -> None:
        self._end.set()

    def since(self, moment: float) -> list[Sample]:
        return [sample for sample in self.samples if sample.at >= moment]

    def _sample(self) -> Sample:
        at = time.monotonic()
        live, _ = probe(self.operator.probe_port, "/live")
        between = time.monotonic()
        ready, said = probe(self.operator.probe_port, "/ready")
        seconds = max(between - at, time.monotonic() - between)
        return Sample(at, live, ready, tuple(said.get("reasons", ())), seconds, self._workers())

    def _workers(self) -> dict[str, str] | None:
        try:
            with ManagementClient(
                f"http://127.0.0.1:{self.operator.ports.management}",
                key_file=self.operator.folder / "key_file.json",
                timeout=2,
                retry=NO_RETRY,
            ) as management:
                described = management.describe("mortal", "all")
        except ClientError:
            return None
        return {
            model.version: model.workers[0].status if model.workers else "none"
            for model in described
        }


@dataclass
class Served:
    """A server with ``mortal.mar``, whose every moment is recorded."""

    operator: Operator
    process: subprocess.Popen[str]
    timeline: Timeline
    flag: Path

    @property
    def management(self) -> ManagementClient:
        address = f"http://127.0.0.1:{self.operator.ports.management}"
        return ManagementClient(address, key_file=self.operator.folder / "key_file.json")

    def asked(self, image: bytes) -> httpx.Response:
        key = KeyFile(self.operator.folder / "key_file.json").inference
        return httpx.post(
            f"http://127.0.0.1:{self.operator.ports.inference}/predictions/mortal",
            content=image,
            headers={"authorization": f"Bearer {key}", "content-type": "image/jpeg"},
            timeout=60,
            trust_env=False,
        )

    def worker(self, version: str) -> int:
        (described,) = self.management.describe("mortal", version)
        return described.workers[0].pid

    def java(self) -> psutil.Process:
        (found,) = (p for p in self.operator.processes() if "java" in p.name())
        return found


@pytest.fixture
def served(operator: Operator, tmp_path: Path) -> Iterator[Served]:
    flag = tmp_path / "die"
    code = MORTAL_HANDLER.format(flag=str(flag), slow_seconds=SLOW_SECONDS)
    for number in ("1.0", "2.0", "3.0"):
        make_archive(operator.store, f"mortal{number[0]}", code, number)
    timeline = Timeline(operator)
    thread = threading.Thread(target=timeline.run)
    thread.start()
    process = operator.start(*operator.serve("mortal=mortal1.mar"))
    yield Served(operator, process, timeline, flag)
    timeline.end()
    thread.join()


def unlike_the_truth(samples: list[Sample], version: str) -> list[Sample]:
    """Samples where the answer is not that of the version which counts, though that had been the
    same for a while."""
    wrong = []
    for number, sample in enumerate(samples):
        window = [s for s in samples[: number + 1] if s.at >= sample.at - LAG_SECONDS]
        states = {(each.workers or {}).get(version) for each in window}
        is_long = sample.at - samples[0].at >= LAG_SECONDS
        if is_long and len(states) == 1 and sample.ready != (200 if states == {"READY"} else 503):
            wrong.append(sample)
    return wrong


@pytest.mark.server
@pytest.mark.long
def test_every_answer_is_true(served: Served) -> None:
    timeline = served.timeline
    wait_until_serving(served.process)
    wait_for(lambda: timeline.samples[-1].ready == 200)
    start = timeline.samples
    assert {sample.live for sample in start} <= {None, 200}, "live since there is an address"
    assert any(each.live == 200 and each.ready == 503 for each in start), "before TorchServe is up"
    assert any("starting" in reason for each in start for reason in each.why)

    # A second version that cannot be loaded, and one that can: what answers is the first.
    upgrade = time.monotonic()
    management = served.management
    served.flag.touch()
    management.register("mortal2.mar", model_name="mortal", ready_seconds=0)
    time.sleep(6)
    served.flag.unlink()
    management.wait_ready("mortal", timeout=60, version="2.0")
    management.set_default("mortal", "2.0")
    management.unregister("mortal", "1.0")
    time.sleep(1)
    upgraded = timeline.since(upgrade)
    assert {(sample.live, sample.ready) for sample in upgraded} == {(200, 200)}, upgraded

    # A crash loop, and its end.
    crash = time.monotonic()
    served.flag.touch()
    os.kill(served.worker("2.0"), signal.SIGKILL)
    time.sleep(8)
    served.flag.unlink()
    management.wait_ready("mortal", timeout=60, version="2.0")
    wait_for(lambda: timeline.samples[-1].ready == 200)
    crashed = timeline.since(crash)
    first = next(sample for sample in crashed if sample.ready == 503)
    assert first.at - crash < 2
    assert first.why == ("mortal 2.0: 0 of 1 workers are READY",)
    assert {sample.live for sample in crashed} == {200}, "TorchServe itself is well"
    assert unlike_the_truth(crashed, "2.0") == []

    # A default version that cannot answer is what answers.
    served.flag.touch()
    management.register("mortal3.mar", model_name="mortal", ready_seconds=0)
    moved = time.monotonic()
    management.set_default("mortal", "3.0")
    wait_for(lambda: timeline.samples[-1].ready == 503)
    assert time.monotonic() - moved < 2
    assert timeline.samples[-1].why == ("mortal 3.0: 0 of 1 workers are READY",)
    management.set_default("mortal", "2.0")
    wait_for(lambda: timeline.samples[-1].ready == 200)

    # The end: what was asked is answered first.
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(served.asked, b"slow")
        time.sleep(1)
        stop = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert slow.result().status_code == 200
        answered = time.monotonic()
    served.process.communicate(timeout=60)
    draining = [each for each in timeline.since(stop + 0.2) if each.at < answered]
    assert {(each.live, each.ready, each.why) for each in draining} == {(200, 503, ("draining",))}
    ended = timeline.since(answered)
    assert 200 not in {sample.ready for sample in ended}
    assert {sample.live for sample in ended} <= {200, None}, "live to the end"
    assert max(sample.seconds for sample in timeline.samples) < 2


@pytest.mark.server
def test_java_that_hangs_is_not_ready(served: Served) -> None:
    wait_until_serving(served.process)
    wait_for(lambda: served.timeline.samples[-1].ready == 200)
    hang = time.monotonic()
    java = served.java()
    java.suspend()
    try:
        wait_for(lambda: served.timeline.samples[-1].ready == 503)
        assert time.monotonic() - hang < 10
        assert "has not answered for" in served.timeline.samples[-1].why[0]
        for _ in range(10):
            asked = time.monotonic()
            status, _said = probe(served.operator.probe_port, "/ready")
            assert status == 503
            assert time.monotonic() - asked < 0.3, "nobody waits for what hangs"
    finally:
        java.resume()
    wait_for(lambda: served.timeline.samples[-1].ready == 200)
    assert {sample.live for sample in served.timeline.since(hang)} == {200}, "not hung for long"
    java.kill()
    wait_for(lambda: served.process.poll() is not None)
    assert probe(served.operator.probe_port, "/live") == (None, {})


@pytest.mark.server
def test_torchserves_own_ping_is_no_probe(served: Served) -> None:
    said = wait_until_serving(served.process)
    assert f"probes      http://127.0.0.1:{served.operator.probe_port}/live and /ready" in said
    ping = httpx.get(f"http://127.0.0.1:{served.operator.ports.inference}/ping", trust_env=False)
    assert ping.status_code == 400, "it asks for a token"
    assert probe(served.operator.probe_port, "/ready") == (200, {"status": "ready"})
    assert probe(served.operator.probe_port, "/live?from=kubelet") == (200, {"status": "live"})
    assert probe(served.operator.probe_port, "/ready", "HEAD") == (200, {})
    assert probe(served.operator.probe_port, "/ping")[0] == 404
    assert probe(served.operator.probe_port, "/ready", "POST")[0] == 405
