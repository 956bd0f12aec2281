"""A server that outlives its tokens: they are renewed while it runs, and nobody is refused.

TorchServe's tokens hold for an hour by default; here for seconds, and where there is time, for a
minute.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from d2serve.client import AsyncD2ServeClient, D2ServeClient, D2ServeGrpcClient, ManagementClient
from d2serve.client.connection.credentials import KeyFile
from d2serve.client.errors import AuthorizationError
from tests.conftest import ROOT
from tests.faults.conftest import Operator, wait_for, wait_until_serving

pytestmark = pytest.mark.server

SHORT_MINUTES, TWO_LIVES_SECONDS = 0.2, 25
A_MINUTE, TEN_MINUTES_SECONDS = 1.0, 600
PAUSE_SECONDS, LONG_PAUSE_SECONDS = 0.005, 0.05
WAYS = {
    *("HTTP", "ping over HTTP", "asyncio", "gRPC", "ping over gRPC"),
    *("management", "d2serve predict"),
}

_log = logging.getLogger(__name__)  # figures: pytest -o log_cli=true -o log_cli_level=info


@dataclass
class Serving:
    """A ``d2serve serve`` that serves."""

    process: subprocess.Popen[str]
    start_page: str
    said: list[str] = field(default_factory=list)
    """On standard error."""


def start(operator: Operator, minutes: float) -> Serving:
    """``d2serve serve`` with tokens that live so long."""
    shutil.copy(ROOT / "metrics.yaml", operator.folder)
    settings = (ROOT / "config.properties").read_text()
    (operator.folder / "config.properties").write_text(
        f"{settings}\ntoken_expiration_min={minutes:g}\n"
    )
    process = operator.start(*operator.serve())
    serving = Serving(process, wait_until_serving(process))
    # Nobody reads the log, which would stop the server as soon as the pipe is full.
    for stream, lines in ((process.stdout, deque(maxlen=100)), (process.stderr, serving.said)):
        threading.Thread(target=lines.extend, args=(stream,), daemon=True).start()
    return serving


class Asking:
    """Clients of every kind, each asking again and again until the time is over."""

    def __init__(self, operator: Operator, image: Path, seconds: float, pause: float) -> None:
        self._operator, self._image, self._pause = operator, image, pause
        self._key_file = operator.folder / "key_file.json"
        self._end = time.monotonic() + seconds
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.tokens: set[str] = set()

    def run(self) -> None:
        ways: list[Callable[[], None]] = [
            self._over_http,
            self._over_http,
            lambda: asyncio.run(self._over_asyncio()),
            self._over_grpc,
            self._managing,
            self._on_the_command_line,
            self._watching,
        ]
        with ThreadPoolExecutor(len(ways)) as pool:
            for done in [pool.submit(way) for way in ways]:
                done.result()

    def _goes_on(self) -> bool:
        time.sleep(self._pause)
        return time.monotonic() < self._end

    def _count(self, way: str, ask: Callable[[], object]) -> None:
        try:
            ask()
            self.answers[way] += 1
        except Exception as error:
            self.failures.append(f"{way}: {type(error).__name__}: {error}")

    def _over_http(self) -> None:
        ports = self._operator.ports
        with D2ServeClient(f"127.0.0.1:{ports.inference}", key_file=self._key_file) as client:
            while self._goes_on():
                self._count("HTTP", lambda: client.predict("canned", self._image))
                self._count("ping over HTTP", client.ping)

    def _watching(self) -> None:
        while self._goes_on():
            self.tokens.add(KeyFile(self._key_file).inference)

    async def _over_asyncio(self) -> None:
        address = f"127.0.0.1:{self._operator.ports.inference}"
        async with AsyncD2ServeClient(address, key_file=self._key_file) as client:
            while self._goes_on():
                asked = [client.predict("canned", self._image) for _ in range(4)]
                for answer in await asyncio.gather(*asked, client.ping(), return_exceptions=True):
                    if isinstance(answer, BaseException):
                        self.failures.append(f"asyncio: {type(answer).__name__}: {answer}")
                    else:
                        self.answers["asyncio"] += 1

    def _over_grpc(self) -> None:
        address = f"127.0.0.1:{self._operator.ports.grpc_inference}"
        with D2ServeGrpcClient(address, key_file=self._key_file) as client:
            while self._goes_on():
                self._count("gRPC", lambda: client.predict("canned", self._image))
                self._count("ping over gRPC", client.ping)

    def _managing(self) -> None:
        address = f"127.0.0.1:{self._operator.ports.management}"
        with ManagementClient(address, key_file=self._key_file) as client:
            while self._goes_on():
                self._count("management", client.list_models)

    def _on_the_command_line(self) -> None:
        while self._goes_on():
            process = self._operator.start(
                *("predict", "canned", self._image.name),
                f"--address=127.0.0.1:{self._operator.ports.inference}",
            )
            _, errors = process.communicate(timeout=120)
            if process.returncode == 0:
                self.answers["d2serve predict"] += 1
            else:
                self.failures.append(f"d2serve predict: {errors}")


@pytest.mark.parametrize(
    ("minutes", "seconds", "pause"),
    [
        (SHORT_MINUTES, TWO_LIVES_SECONDS, PAUSE_SECONDS),
        pytest.param(A_MINUTE, TEN_MINUTES_SECONDS, LONG_PAUSE_SECONDS, marks=pytest.mark.long),
    ],
    ids=["seconds", "ten minutes"],
)
@pytest.mark.timeout(1200)
def test_nobody_is_refused_while_the_server_runs(
    operator: Operator, minutes: float, seconds: float, pause: float
) -> None:
    image = operator.folder / "image.jpg"
    image.write_bytes(b"the handler does not look into it")
    key_file = KeyFile(operator.folder / "key_file.json")
    serving = start(operator, minutes)
    assert f"{key_file.path} (renewed every {minutes * 45:g} seconds; " in serving.start_page
    copied = key_file.inference

    asking = Asking(operator, image, seconds, pause)
    asking.run()
    _log.info("answered %s, tokens %d", dict(asking.answers), len(asking.tokens))
    assert not asking.failures, f"{len(asking.failures)}, the first: {asking.failures[:3]}"
    assert set(asking.answers) == WAYS
    lives = seconds / (60 * minutes)
    assert len(asking.tokens) > lives, "each was replaced before it ended"

    address = f"127.0.0.1:{operator.ports.inference}"
    with (
        D2ServeClient(address, token=copied) as client,
        pytest.raises(AuthorizationError, match=r"Give the server's key_file\.json in its place"),
    ):
        client.predict("canned", image)

    # As on a machine that is suspended: time goes by, and nothing is renewed.
    serving.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: key_file.expired("inference"), 120 * minutes + 20)
    serving.process.send_signal(signal.SIGCONT)
    with D2ServeClient(address, key_file=key_file.path) as client:
        assert client.predict("canned", image).model == "canned"
    assert "could not be renewed" not in "".join(serving.said)
