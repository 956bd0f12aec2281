"""``deploy/nginx.conf`` as a process of the test's own: as it is, but for paths and ports."""

from __future__ import annotations

import getpass
import json
import shutil
import ssl
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from d2serve.server.torchserve.config.ports import Ports, is_busy
from tests.conftest import ROOT

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
DEPLOY = ROOT / "deploy"
KEY, CLIENT = "0123456789abcdef" * 3, "a-test"  # as long as docs/proxy.md has them
PAGES = "https://app.example.com"
"""An origin whose pages may ask, beside those that a test names."""

_MODULES = Path("/usr/lib/nginx/modules")
needs_nginx = pytest.mark.skipif(
    not Path(NGINX).is_file() or not (_MODULES / "ngx_http_lua_module.so").is_file(),
    reason="needs nginx with Lua: apt-get install nginx libnginx-mod-http-lua",
)
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass
class Behind:
    """What a proxy stands before: the ports of one server and its tokens."""

    key_file: Path
    inference: int
    grpc: int
    metrics: int
    probes: int


@dataclass
class Proxy:
    """An nginx at ``address``, which runs within ``with``."""

    folder: Path
    port: int
    inner_port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def certificate(self) -> Path:
        return self.folder / "d2serve" / "tls.crt"

    def client(self, **settings: Any) -> httpx.Client:
        """A client over HTTP that trusts this proxy and sends no key by itself."""
        trusted = ssl.create_default_context(cafile=self.certificate)
        return httpx.Client(
            base_url=self.address, verify=trusted, trust_env=False, timeout=60, **settings
        )

    def log(self) -> list[dict[str, Any]]:
        """The access log, once nginx has written it: it does so just after each answer."""
        time.sleep(0.5)
        return [json.loads(line) for line in (self.folder / "access.log").read_text().splitlines()]

    def errors(self) -> str:
        return (self.folder / "error.log").read_text()

    def command(self, *arguments: str) -> list[str]:
        return [NGINX, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), *arguments]

    def __enter__(self) -> Proxy:
        self.process = subprocess.Popen(self.command("-g", "daemon off;"))
        deadline = time.monotonic() + 20
        while not is_busy(self.port):
            gone = self.process.poll() is not None or time.monotonic() > deadline
            assert not gone, "nginx does not listen; its reason is on standard error"
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=20)


def configured(
    folder: Path, behind: Behind, edits: Mapping[str, str] | None = None, origins: str = ""
) -> Proxy:
    """Write ``deploy/nginx.conf`` and what it reads into a folder of its own.

    ``edits`` are what an operator changes: the text that is there, and what takes its place.
    """
    proxy = Proxy(folder, *_free_ports())
    own = folder / "d2serve"
    own.mkdir(mode=0o700)
    for file in (DEPLOY / "nginx").iterdir():
        shutil.copy(file, own)
    (own / "clients.map").write_text(f'"{KEY}" {CLIENT};\n')
    (own / "origins.map").write_text(f'"{PAGES}" $http_origin;\n{origins}')
    _make_certificate(own)
    (folder / "modules").symlink_to(_MODULES)
    text = (DEPLOY / "nginx.conf").read_text()
    temporary = "".join(f"  {name}_temp_path {folder}/{name};\n" for name in _TEMPORARY)
    for found, wanted in {
        "user d2serve;": f"user {getpass.getuser()};",
        "pid /run/nginx.pid;": f"pid {folder}/nginx.pid;",
        "error_log /var/log/nginx/error.log;": f"error_log {folder}/error.log;",
        "access_log /var/log/nginx/access.log d2serve;": f"access_log {folder}/access.log d2serve;",
        "\nhttp {\n": f"\nhttp {{\n{temporary}",
        '"/etc/nginx/d2serve/?.lua;;"': f'"{own}/?.lua;;"',
        '"/var/lib/d2serve/key_file.json"': f'"{behind.key_file}"',
        "server 127.0.0.1:8080;": f"server 127.0.0.1:{behind.inference};",
        "server 127.0.0.1:7070;": f"server 127.0.0.1:{behind.grpc};",
        "server 127.0.0.1:8082;": f"server 127.0.0.1:{behind.metrics};",
        "server 127.0.0.1:8085;": f"server 127.0.0.1:{behind.probes};",
        "127.0.0.1:8079": f"127.0.0.1:{proxy.inner_port}",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{proxy.port} ssl http2;",
        "server_name models.example.com;": "server_name localhost;",
        **(edits or {}),
    }.items():
        assert found in text, f"deploy/nginx.conf has no longer {found!r}"
        text = text.replace(found, wanted)
    (folder / "nginx.conf").write_text(text)
    return proxy


def _free_ports() -> tuple[int, int]:
    ports = Ports.free()
    return ports.inference, ports.management


def _make_certificate(folder: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run([*command.split(), *subject, *files], check=True, capture_output=True)
