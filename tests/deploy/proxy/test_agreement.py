"""deploy/nginx.conf says the same as the rooms do, and nginx takes it as it is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from d2serve.client.connection.proxy_errors import NOTHING_BEGUN
from d2serve.client.predict import grpc_stubs
from d2serve.export.archive.staging import settings_for
from d2serve.handlers.requests.deadline import HEADER as DEADLINE
from d2serve.handlers.requests.fields import HEADER_PREFIX
from d2serve.server.probes.server import DEFAULT_PORT as PROBE_PORT
from d2serve.server.torchserve.config.ports import Ports
from d2serve.server.torchserve.config.properties import safe_defaults
from tests.deploy.proxy.running import DEPLOY, Behind, configured, needs_nginx

CONFIGURATION = (DEPLOY / "nginx.conf").read_text()
LUA = (DEPLOY / "nginx" / "proxy.lua").read_text()


def seconds(directive: str) -> list[int]:
    return [int(each) for each in re.findall(rf"^\s*{directive} (\d+)s;", CONFIGURATION, re.M)]


@needs_nginx
def test_nginx_takes_it(tmp_path: Path) -> None:
    proxy = configured(tmp_path, Behind(tmp_path / "key_file.json", 8080, 7070, 8082, 8085))
    tested = subprocess.run(proxy.command("-t"), check=False, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr


def test_the_ports_are_those_of_the_server() -> None:
    ports = Ports()
    for name, port in {
        "torchserve": ports.inference,
        "torchserve_grpc": ports.grpc_inference,
        "metrics": ports.metrics,
        "probes": PROBE_PORT,
    }.items():
        assert re.search(rf"upstream {name} +{{ server 127\.0\.0\.1:{port};", CONFIGURATION)
    assert f"127.0.0.1:{ports.management}" not in CONFIGURATION


def test_as_long_a_request_is_taken_as_the_server_takes() -> None:
    longest = int(safe_defaults()["max_request_size"]) // 1024**2
    assert f"client_max_body_size {longest}m;" in CONFIGURATION
    assert f"{longest} MiB" in CONFIGURATION


def test_it_waits_longer_than_the_server_works() -> None:
    (added,) = re.findall(r"\$msec\+(\d+)", CONFIGURATION)
    outer, inner = seconds("proxy_read_timeout")
    (over_grpc,) = seconds("grpc_read_timeout")
    assert outer == over_grpc > inner >= int(added)
    assert int(added) > int(str(settings_for(False, "cpu")["responseTimeout"]))


def test_names_of_headers_services_and_words() -> None:
    assert f"proxy_set_header {DEADLINE} " in CONFIGURATION.replace(
        "X-Request-Deadline", "x-request-deadline"
    )
    assert DEADLINE in LUA
    assert f'"^{HEADER_PREFIX.replace("-", "%-")}"' in LUA
    service = grpc_stubs.PREDICTIONS_METHOD.split("/")[1]
    assert service.replace(".", r"\.") in CONFIGURATION
    assert NOTHING_BEGUN in LUA
    assert NOTHING_BEGUN in CONFIGURATION
