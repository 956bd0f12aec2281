"""A page in a real browser asks the proxy, which has another origin, with docs/proxy.md's lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from tests.conftest import ROOT
from tests.deploy.proxy.browser import Browser, needs_chromium
from tests.deploy.proxy.running import KEY, Behind, Proxy, configured, needs_nginx
from tests.deploy.proxy.stand_ins import Answering, listening

pytestmark = [pytest.mark.server, pytest.mark.long, needs_nginx, needs_chromium]

SAMPLE = (ROOT / "examples" / "shapes" / "sample.jpg").read_bytes()
SNIPPET = re.search(r"```js\n(.*?)```", (ROOT / "docs" / "proxy.md").read_text(), re.DOTALL)
PAGE = """<!doctype html><title>asks another origin</title><p id="result"></p>
<script type="module">
const show = shown => { document.getElementById("result").textContent = JSON.stringify(shown); };
try {
  const photo = await (await fetch("/photo.jpg")).blob();
SNIPPET
  show({ status: answer.status, said: prediction, id });
} catch (error) {
  show({ failed: String(error) });
}
</script>"""


class Pages(Answering):
    """A site of its own origin, with one page and a photo."""

    def __init__(self) -> None:
        super().__init__(_PageHandler)
        self.page = ""

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _PageHandler(BaseHTTPRequestHandler):
    server: Pages

    def do_GET(self) -> None:
        is_photo = self.path == "/photo.jpg"
        body = SAMPLE if is_photo else self.server.page.encode()
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg" if is_photo else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    with listening(Pages()) as made:
        yield made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture(scope="module")
def open_to_pages(
    behind: Behind, pages: Pages, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    origins = f'"{pages.origin}" $http_origin;\n'
    with configured(tmp_path_factory.mktemp("open"), behind, origins=origins) as proxy:
        yield proxy


def asked(browser: Browser, pages: Pages, proxy: Proxy, key: str = KEY) -> dict[str, object]:
    """What the page shows once docs/proxy.md's lines have got an answer, or have not."""
    assert SNIPPET is not None
    lines = SNIPPET[1].replace("https://models.example.com", proxy.address)
    pages.page = PAGE.replace("SNIPPET", lines.replace("Bearer KEY", f"Bearer {key}"))
    browser.open(f"{pages.origin}/")
    shown = json.loads(browser.text("result"))
    assert isinstance(shown, dict)
    return shown


def test_a_page_of_an_origin_that_may_ask(
    browser: Browser, pages: Pages, open_to_pages: Proxy
) -> None:
    shown = asked(browser, pages, open_to_pages)
    said = shown["said"]
    assert isinstance(said, dict)
    assert shown["status"] == 200, said
    assert len(said["instances"]) == 1
    assert shown["id"] == said["request_id"]
    asking = [(line["method"], line["protocol"]) for line in open_to_pages.log()]
    assert asking == [("OPTIONS", "HTTP/2.0"), ("POST", "HTTP/2.0")], "first without the key"


def test_such_a_page_reads_why_it_was_refused(
    browser: Browser, pages: Pages, open_to_pages: Proxy
) -> None:
    shown = asked(browser, pages, open_to_pages, "not-one-of-yours")
    assert shown["status"] == 401
    assert isinstance(shown["said"], dict)
    assert shown["said"]["error"]["code"] == "unauthorized"


def test_a_page_of_an_origin_that_may_not(browser: Browser, pages: Pages, proxy: Proxy) -> None:
    before = len(proxy.log())
    shown = asked(browser, pages, proxy)
    assert shown == {"failed": "TypeError: Failed to fetch"}
    refused = proxy.log()[before:]
    assert [(line["method"], line["status"]) for line in refused] == [("OPTIONS", 403)]
