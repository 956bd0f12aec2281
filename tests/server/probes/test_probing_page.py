"""What docs/probing.md tells operators to write works as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from d2serve.server.probes.server import DEFAULT_PORT, ProbeServer
from d2serve.server.torchserve.config.ports import Ports
from tests.server.probes.test_watch import StandIn, ask, serving, stand_in

__all__ = ["stand_in"]

PAGE = (Path(__file__).parents[3] / "docs" / "probing.md").read_text()


def block(containing: str) -> str:
    """The code block of the page that has this text in it."""
    blocks = re.findall(r"```\w*\n(.*?)```", PAGE, re.DOTALL)
    (found,) = (each for each in blocks if containing in each)
    return str(found)


@pytest.fixture
def probes(stand_in: StandIn) -> Iterator[ProbeServer]:
    """Of a server that is ready."""
    with ProbeServer("127.0.0.1", Ports.free().metrics, Ports()) as running:
        serving(running, stand_in)
        yield running


def of(probes: ProbeServer, text: str) -> str:
    """The text with this server's port."""
    assert probes.address is not None
    assert str(DEFAULT_PORT) in text
    return text.replace(str(DEFAULT_PORT), probes.address.rpartition(":")[2])


def test_kubernetes_asks_what_is_answered(probes: ProbeServer) -> None:
    written = yaml.safe_load(of(probes, block("readinessProbe")))
    for name, path in (("readinessProbe", "/ready"), ("livenessProbe", "/live")):
        asked: dict[str, Any] = written[name]["httpGet"]
        assert asked["path"] == path
        assert probes.address == f"http://127.0.0.1:{asked['port']}"
        assert ask(probes, asked["path"])[0] == 200


def test_dockers_health_check_tells_ready_from_unready(
    probes: ProbeServer, stand_in: StandIn
) -> None:
    line = of(probes, block("HEALTHCHECK"))
    _, option, code = yaml.safe_load(line.partition("CMD ")[2])
    command = [sys.executable, option, code]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    stand_in.is_draining = True
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1


@pytest.mark.skipif(
    shutil.which("haproxy") is None, reason="haproxy is not installed: apt-get install haproxy"
)
def test_haproxy_leaves_out_a_server_that_drains(
    probes: ProbeServer, stand_in: StandIn, tmp_path: Path
) -> None:
    listening = Ports.free().inference
    (tmp_path / "haproxy.cfg").write_text(
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\n"
        f"frontend f\n  bind 127.0.0.1:{listening}\n  default_backend models\n"
        # The probes themselves stand for the predictions: they answer, drained or not.
        + of(probes, block("httpchk")).replace("127.0.0.1:8080", probe_host(probes))
    )
    process = subprocess.Popen(["haproxy", "-f", str(tmp_path / "haproxy.cfg"), "-q"])
    try:
        assert eventually(listening, 200)
        stand_in.is_draining = True
        assert eventually(listening, 503)
        stand_in.is_draining = False
        assert eventually(listening, 200)
    finally:
        process.kill()
        process.wait()


def probe_host(probes: ProbeServer) -> str:
    assert probes.address is not None
    return probes.address.partition("//")[2]


def eventually(port: int, status: int) -> bool:
    """Whether /live at a port gets this status within seconds; haproxy says 503 by itself."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/live", trust_env=False)
        except httpx.HTTPError:  # haproxy is not up yet
            time.sleep(0.2)
            continue
        if answer.status_code == status:
            return True
        time.sleep(0.2)
    return False
