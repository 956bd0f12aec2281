"""TorchServe's token is renewed again and again while clients ask: none of them notices."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from d2serve.client import D2ServeGrpcClient
from d2serve.client.errors import ClientError
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import ROOT
from tests.deploy.proxy.conftest import CHEAP
from tests.deploy.proxy.running import KEY, Proxy, needs_nginx

_log = logging.getLogger(__name__)  # figures: pytest -o log_cli=true -o log_cli_level=info

pytestmark = [pytest.mark.server, pytest.mark.long, needs_nginx]

SAMPLE = (ROOT / "examples" / "shapes" / "sample.jpg").read_bytes()
RENEWALS = 20


def test_renewals_under_load_lose_nothing(proxy: Proxy, server: TorchServeProcess) -> None:
    """Over HTTP clients that never ask twice; over gRPC ours, which does so when told to."""
    outcomes: Counter[str] = Counter()
    before = len(proxy.log())
    over = threading.Event()

    def over_http() -> None:
        headers = {"content-type": "image/jpeg", "x-api-key": KEY}
        with proxy.client(headers=headers) as client:
            while not over.is_set():
                answer = client.post(f"/predictions/{CHEAP}", content=SAMPLE)
                outcomes[f"HTTP {answer.status_code}"] += 1

    def over_grpc() -> None:
        with D2ServeGrpcClient(proxy.address, ca_file=proxy.certificate, token=KEY) as client:
            while not over.is_set():
                try:
                    client.predict(CHEAP, SAMPLE)
                    outcomes["gRPC"] += 1
                except ClientError as error:
                    outcomes[repr(error)] += 1

    clients: list[Callable[[], None]] = [over_http, over_http, over_http, over_grpc]
    threads = [threading.Thread(target=client) for client in clients]
    for thread in threads:
        thread.start()
    try:
        for _ in range(RENEWALS):
            time.sleep(1)
            server.management.renew_token("inference")
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=120)
    tries = Counter(line["upstream_status"] for line in proxy.log()[before:])
    _log.info("outcomes %s, tries %s", dict(outcomes), dict(tries))
    assert set(outcomes) == {"HTTP 200", "gRPC"}
    assert min(outcomes.values()) > RENEWALS
    assert set(tries) <= {"200", "429, 200"}, "the token was refused, and the request asked again"
