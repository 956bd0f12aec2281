"""A real Prometheus scrapes a server and answers what the dashboard and the pages ask it."""

from __future__ import annotations

import math
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from d2serve.server.torchserve.process import TorchServeProcess
from tests.handlers.programs import UNLUCKY
from tests.promql import (
    dashboard,
    expressions_of_dashboard,
    expressions_of_pages,
    named,
    needs_a_gpu,
)
from tests.robustness.sending import Sender, grey

pytestmark = [
    pytest.mark.server,
    pytest.mark.long,
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="Prometheus is not installed: apt-get install prometheus",
    ),
]
_CONFIG = """\
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: d2serve
    static_configs: [{{targets: ["{target}"]}}]
"""
_VARIABLES = {"$instance": ".*", "$model": ".*", "$quantile": "0.9", "$__rate_interval": "5m"}
_SCRAPES = 4
_COMPARISON = re.compile(r" (?:==|[<>]=?) [\d.e+]+$")


@pytest.fixture(scope="module")
def prometheus(
    server: TorchServeProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of one that has scraped the server several times, between requests."""
    folder = tmp_path_factory.mktemp("prometheus")
    target = server.metrics_address.removeprefix("http://")
    (folder / "prometheus.yml").write_text(_CONFIG.format(target=target))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        _send_until_scraped(server, f"http://{address}", folder / "log")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _send_until_scraped(server: TorchServeProcess, address: str, log: Path) -> None:
    sender = Sender(server)
    ask = f"count_over_time(d2serve_rejected_total[1h]) >= {_SCRAPES}"
    deadline = time.monotonic() + 120
    with sender.http:
        while True:
            sent = [sender.image(each) for each in (grey(51), b"bad", grey(UNLUCKY))]
            assert [each.status_code for each in sent] == [200, 415, 500]
            time.sleep(0.5)
            assert time.monotonic() < deadline, log.read_text()
            try:
                if query(address, ask):
                    return
            except httpx.TransportError:  # it is still starting
                continue


def query(address: str, expression: str) -> list[dict[str, Any]]:
    """What Prometheus answers now."""
    reply = httpx.get(
        f"{address}/api/v1/query", params={"query": expression}, timeout=30, trust_env=False
    )
    if reply.status_code == 503:  # it is still starting
        return []
    assert reply.status_code == 200, (expression, reply.text)
    result: list[dict[str, Any]] = reply.json()["data"]["result"]
    return result


def test_every_query_of_the_dashboard_has_data(prometheus: str) -> None:
    for name, expression in expressions_of_dashboard().items():
        for variable, value in _VARIABLES.items():
            expression = expression.replace(variable, value)
        found = query(prometheus, expression)
        if not needs_a_gpu(expression):
            assert any(math.isfinite(float(each["value"][1])) for each in found), name


def test_the_dashboards_variables_have_values(prometheus: str) -> None:
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.findall(r"label_values\((.*), (\w+)\)", variable["definition"])[0]
            found = query(prometheus, metric.replace("$instance", ".*"))
            assert all(each["metric"].get(label) for each in found), variable["name"]
            assert found


def test_every_expression_of_the_pages_is_one_and_has_data(prometheus: str) -> None:
    """An alert has none while it is silent; what it compares always has."""
    expressions = expressions_of_pages()
    assert sum(bool(_COMPARISON.search(each)) for each in expressions) >= 10
    for expression in expressions:
        query(prometheus, expression)
        compared = _COMPARISON.sub("", expression)
        assert query(prometheus, compared), (expression, named(expression))


def test_the_alerts_that_must_fire_do(prometheus: str) -> None:
    """A third of what was sent was refused, and another third failed, for seconds, not minutes."""
    alerts = [each for each in expressions_of_pages() if _COMPARISON.search(each)]
    fire = [each for each in alerts if query(prometheus, re.sub(r"\[\d+[mh]\]", "[30s]", each))]
    for sign in ("Requests5XX", 'code="model_failed"', "> 0.2"):
        assert any(sign in each for each in fire), sign
    assert not any("up{" in each for each in fire)
