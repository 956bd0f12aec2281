"""The page's server over HTTP: who is refused, what is sent, and what passes to TorchServe."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from d2serve.client.errors import ServerStartError
from d2serve.server.page.answering import MOST_BYTES, MOST_CONNECTIONS
from d2serve.server.page.guarding import KEY_HEADER, SECURITY_HEADERS
from d2serve.server.page.page_files import page_files
from d2serve.server.page.server import PageServer
from d2serve.server.torchserve.config.ports import Ports
from tests.server.page.stand_in import REPLY, TOKEN, Said, StandIn, standing_in

PREDICT = "/predict?model=m"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


class Asking:
    """Asks a page's server, as the page does unless a test says otherwise."""

    def __init__(self, page: PageServer) -> None:
        parts = urlsplit(page.address)
        assert parts.port is not None
        self.port, self.key = parts.port, parts.fragment
        self.origin = f"http://127.0.0.1:{self.port}"

    def __call__(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        leave_out: tuple[str, ...] = (),
    ) -> Answer:
        own = {"Origin": self.origin, KEY_HEADER: self.key, "Sec-Fetch-Site": "same-origin"}
        sent = {**own, **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            wanted = {name: value for name, value in sent.items() if name not in leave_out}
            connection.request(method, path, body, wanted)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read())

    def raw(self, sent: bytes) -> bytes:
        """What comes back for these bytes, to the end of the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(sent)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := connection.recv(65_536):
                    received += chunk
            return received


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PageServer, StandIn]]:
    """One server for all tests: to end one takes half a second."""
    page = PageServer(Ports.free().inference, Ports())
    with standing_in(tmp_path_factory.mktemp("torchserve")) as stand_in, page:
        page.serving(stand_in, stand_in.key_file)
        yield page, stand_in


@pytest.fixture(autouse=True)
def stand_in(running: tuple[PageServer, StandIn]) -> StandIn:
    stand_in = running[1]
    stand_in.said = Said()
    stand_in.write_token(TOKEN)
    return stand_in


@pytest.fixture
def asking(running: tuple[PageServer, StandIn]) -> Asking:
    return Asking(running[0])


class TestWhoMayAsk:
    def test_the_page_itself(self, asking: Asking) -> None:
        assert asking(PREDICT, "POST", b"image").body == REPLY
        by_name = {"Host": f"localhost:{asking.port}", "Origin": f"http://localhost:{asking.port}"}
        assert asking(PREDICT, "POST", b"image", by_name).body == REPLY

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:80", "[::1]:1", ""])
    def test_by_no_other_name(self, asking: Asking, stand_in: StandIn, host: str) -> None:
        """DNS rebinding: a name of somebody else's that leads here."""
        own = {"Host": host, "Origin": f"http://{host}"}
        for path, method in (("/", "GET"), ("/page.js", "GET"), ("/models", "GET")):
            answer = asking(path, method, headers={"Host": host}, leave_out=("Origin",))
            assert (answer.status, answer.code) == (403, "wrong_host")
        assert asking(PREDICT, "POST", b"image", own).code == "wrong_host"
        assert stand_in.said.asked == []

    @pytest.mark.parametrize(
        "origin", ["http://evil.example", "null", "https://127.0.0.1:PORT", "http://localhost:PORT"]
    )
    def test_from_no_other_origin(self, asking: Asking, stand_in: StandIn, origin: str) -> None:
        origin = origin.replace("PORT", str(asking.port))
        for path, method in ((PREDICT, "POST"), ("/models", "GET"), ("/page.js", "GET")):
            answer = asking(
                path, method, b"image" if method == "POST" else None, {"Origin": origin}
            )
            assert (answer.status, answer.code) == (403, "wrong_origin")
            assert "Access-Control-Allow-Origin" not in answer.headers
        assert stand_in.said.asked == []

    def test_what_says_no_origin_posts_nothing(self, asking: Asking) -> None:
        assert asking(PREDICT, "POST", b"x", leave_out=("Origin",)).code == "wrong_origin"

    def test_from_no_other_site(self, asking: Asking) -> None:
        for site in ("cross-site", "same-site", "none"):
            answer = asking("/models", headers={"Sec-Fetch-Site": site}, leave_out=("Origin",))
            assert answer.code == "wrong_origin"

    def test_only_with_the_key_of_this_start(self, asking: Asking, stand_in: StandIn) -> None:
        assert len(asking.key) >= 20
        for key in ("", "x", asking.key[:-1], "é"):
            answer = asking(PREDICT, "POST", b"image", {KEY_HEADER: key})
            assert (answer.status, answer.code) == (403, "wrong_key")
        for path in ("/models", "/about?model=m&version=1.0"):
            assert asking(path, leave_out=(KEY_HEADER,)).code == "wrong_key"
        assert stand_in.said.asked == []

    def test_a_link_of_another_site_opens_the_page(self, asking: Asking) -> None:
        assert (
            asking(
                "/", headers={"Sec-Fetch-Site": "cross-site"}, leave_out=("Origin", KEY_HEADER)
            ).status
            == 200
        )

    def test_a_preflight_allows_nothing(self, asking: Asking) -> None:
        answer = asking("/predict", "OPTIONS", headers={"Origin": "http://evil.example"})
        assert answer.status == 405
        assert not any(name.startswith("Access-Control") for name in answer.headers)

    @pytest.mark.parametrize("name", ["Host", "Origin", KEY_HEADER])
    def test_what_is_said_twice_is_not_believed(self, asking: Asking, name: str) -> None:
        own = {
            "Host": f"127.0.0.1:{asking.port}",
            "Origin": asking.origin,
            KEY_HEADER: asking.key,
            "Content-Length": "1",
        }
        lines = [f"{each}: {value}" for each, value in [*own.items(), (name, own[name])]]
        sent = "\r\n".join([f"POST {PREDICT} HTTP/1.1", *lines, "", "x"])
        assert asking.raw(sent.encode()).startswith(b"HTTP/1.1 403 ")


class TestWhatIsSent:
    def test_every_answer_has_the_security_headers(self, asking: Asking) -> None:
        answers = [
            *(asking(path) for path in ("/", "/page.js", "/page.css", "/models", "/nothing")),
            asking(PREDICT, "POST", b"image"),
            asking(PREDICT, "DELETE"),
            asking("/", headers={"Host": "evil.example"}),
        ]
        for answer in answers:
            assert answer.headers.items() >= SECURITY_HEADERS.items()
            assert answer.headers["Server"] == "d2serve"
        policy = SECURITY_HEADERS["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy

    def test_the_page_needs_nothing_of_the_internet_and_no_inline_code(self) -> None:
        for path, file in page_files().items():
            text = file.content.decode()
            assert "http://" not in text, path
            assert "https://" not in text, path
            assert not any(word in text for word in ("innerHTML", "eval(", " style=", " onclick="))
            assert len(file.content) < 20_000

    def test_files_by_their_paths_alone(self, asking: Asking) -> None:
        assert asking("/").headers["Content-Type"] == "text/html; charset=utf-8"
        assert asking("/masks.js?x=1").headers["Content-Type"] == "text/javascript; charset=utf-8"
        head = asking("/page.css", "HEAD")
        assert (head.status, head.body) == (200, b"")
        for path in (
            "/server.py",
            "/../server.py",
            "/files/page.js",
            "/%2e%2e/server.py",
            "/..%2f..%2fserver.py",
            "//etc/passwd",
            "/page.js/",
            "/index.html",
            "/page.js%00",
            "/\\..\\server.py",
        ):
            assert asking(path).status == 404, path

    @pytest.mark.parametrize(
        ("method", "path"),
        [("POST", "/"), ("POST", "/models"), ("GET", "/predict"), ("HEAD", "/predict")]
        + [(method, "/predict") for method in ("PUT", "DELETE", "PATCH", "TRACE")],
    )
    def test_wrong_methods(self, asking: Asking, method: str, path: str) -> None:
        assert asking(path, method).status == 405

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"\xff\xfe\x00 \x80 HTTP/1.1\r\n\r\n", b"405"),
            (b"GET / HTTP/9.9\r\n\r\n", b"505"),
            (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
            (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
            (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
            (b"GET http://[ HTTP/1.1\r\n\r\n", b"403"),
        ],
    )
    def test_whatever_is_sent(self, asking: Asking, sent: bytes, status: bytes) -> None:
        assert asking.raw(sent).startswith(b"HTTP/1.1 " + status)
        assert asking("/").status == 200


class TestBodies:
    def head(self, asking: Asking, *lines: str) -> bytes:
        own = (f"Host: 127.0.0.1:{asking.port}", f"Origin: {asking.origin}")
        text = "\r\n".join(
            (f"POST {PREDICT} HTTP/1.1", *own, f"{KEY_HEADER}: {asking.key}", *lines)
        )
        return text.encode() + b"\r\n\r\n"

    def test_one_too_large_is_refused_before_it_is_read(
        self, asking: Asking, stand_in: StandIn
    ) -> None:
        for length in (str(MOST_BYTES + 1), "9" * 30):
            answer = asking.raw(self.head(asking, f"Content-Length: {length}"))
            assert answer.startswith(b"HTTP/1.1 413 "), "though no byte of it was sent"
        assert stand_in.said.asked == []

    @pytest.mark.parametrize(
        "lines",
        [
            (),
            ("Transfer-Encoding: chunked",),
            ("Transfer-Encoding: chunked", "Content-Length: 3"),
            ("Content-Length: 3", "Content-Length: 4"),
            ("Content-Length: -3",),
            ("Content-Length: +3",),
            ("Content-Length: ３",),
        ],
    )
    def test_of_no_clear_length(self, asking: Asking, lines: tuple[str, ...]) -> None:
        assert asking.raw(self.head(asking, *lines)).startswith(b"HTTP/1.1 411 ")

    def test_whoever_goes_away_is_not_answered(self, asking: Asking, stand_in: StandIn) -> None:
        with socket.create_connection(("127.0.0.1", asking.port), timeout=20) as connection:
            connection.sendall(self.head(asking, "Content-Length: 10") + b"half")
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
        assert stand_in.said.asked == []

    def test_a_connection_takes_one_request_after_the_other(self, asking: Asking) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", asking.port, timeout=20)
        headers = {"Origin": asking.origin, KEY_HEADER: asking.key}
        with contextlib.closing(connection):
            for _ in range(3):
                connection.request("POST", PREDICT, b"image", headers)
                assert connection.getresponse().read() == REPLY

    def test_a_connection_too_many_is_closed(self, asking: Asking) -> None:
        address = ("127.0.0.1", asking.port)
        idle = [socket.create_connection(address, 20) for _ in range(MOST_CONNECTIONS)]
        time.sleep(0.2)
        one_more = socket.create_connection(address, timeout=20)
        with contextlib.closing(one_more), contextlib.suppress(ConnectionResetError):
            assert one_more.recv(10) == b""
        for connection in idle:
            connection.close()
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(http.client.HTTPException, OSError):
                assert asking("/").status == 200
                break
            assert time.monotonic() < deadline


class TestTorchServe:
    def test_its_models(self, asking: Asking, stand_in: StandIn) -> None:
        said: dict[str, Any] = json.loads(asking("/models").body)
        assert said["models"] == {
            "m": [
                {"version": "1.0", "is_default": True, "is_ready": True},
                {"version": "2.0", "is_default": False, "is_ready": False},
            ]
        }
        assert said["most_bytes"] == MOST_BYTES
        assert said["curl"]["address"] == stand_in.inference_address
        assert str(stand_in.key_file) in said["curl"]["start"]

    def test_what_a_version_says_of_itself(self, asking: Asking) -> None:
        said = json.loads(asking("/about?model=m&version=1.0").body)
        assert said == {"family": "Mask R-CNN", "score_thresh": 0.05, "limits": {}}
        assert asking("/about?model=m").code == "no_model"

    def test_a_prediction_passes_with_a_token_that_does_not_come_back(
        self, asking: Asking, stand_in: StandIn
    ) -> None:
        image = bytes(range(256)) * 1000
        answers = [
            asking("/predict?model=m&version=2.0", "POST", image),
            asking("/predict?model=..%2Fa%3Fb", "POST", image),
            asking("/models"),
        ]
        assert stand_in.said.asked[:2] == [
            ("POST", "/predictions/m/2.0", image),
            ("POST", "/predictions/..%2Fa%3Fb", image),
        ]
        for answer in answers:
            assert TOKEN.encode() not in answer.body
            assert TOKEN not in str(answer.headers)

    @pytest.mark.parametrize("status", [400, 404, 415, 500, 503, 507])
    def test_its_errors_pass_as_they_are(
        self, asking: Asking, stand_in: StandIn, status: int
    ) -> None:
        stand_in.said.status = status
        stand_in.said.body = b'{"error": {"code": "some_code", "message": "some words"}}'
        answer = asking(PREDICT, "POST", b"image")
        assert (answer.status, answer.body) == (status, stand_in.said.body)

    def test_a_token_that_was_renewed_meanwhile(self, asking: Asking, stand_in: StandIn) -> None:
        stand_in.write_token("old")
        stand_in.said.old_token = "old"
        assert asking(PREDICT, "POST", b"image").body == REPLY
        assert len(stand_in.said.asked) == 2

    def test_one_that_hangs_up_and_comes_back(self, asking: Asking, stand_in: StandIn) -> None:
        stand_in.said.hangs_up = True
        for answer in (asking(PREDICT, "POST", b"image"), asking("/models")):
            assert (answer.status, answer.code) == (502, "no_answer")
        stand_in.said.hangs_up = False
        assert asking(PREDICT, "POST", b"image").body == REPLY

    def test_one_whose_key_file_is_gone(self, asking: Asking, stand_in: StandIn) -> None:
        assert stand_in.key_file is not None
        stand_in.key_file.unlink()
        assert asking("/models").code == "no_answer"

    def test_one_that_is_being_started(self) -> None:
        with PageServer(Ports.free().inference, Ports()) as starting:
            asking = Asking(starting)
            assert asking("/").status == 200
            for answer in (asking("/models"), asking(PREDICT, "POST", b"image")):
                assert (answer.status, answer.code) == (503, "starting")


class TestPictures:
    def test_upright_and_without_exif(self, asking: Asking) -> None:
        exif, file = Image.Exif(), io.BytesIO()
        exif[0x0112] = 6
        pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
        Image.fromarray(pixels).save(file, "WEBP", lossless=True, exif=exif)
        answer = asking("/picture", "POST", file.getvalue())
        assert answer.headers["Content-Type"] == "image/png"
        with Image.open(io.BytesIO(answer.body)) as shown:
            assert np.array_equal(np.asarray(shown), np.rot90(pixels, -1))
            assert not shown.getexif()

    def test_what_is_no_picture(self, asking: Asking, stand_in: StandIn) -> None:
        answer = asking("/picture", "POST", b"no image")
        assert (answer.status, answer.code) == (415, "unsupported_image_format")
        assert asking("/picture", "POST", b"x", leave_out=(KEY_HEADER,)).code == "wrong_key"
        assert stand_in.said.asked == [], "TorchServe has no part in it"


class TestAddress:
    def test_only_this_machine_reaches_it(self, asking: Asking) -> None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", asking.port), timeout=5)

    def test_a_port_that_is_taken_names_the_option(self) -> None:
        port = Ports.free().inference
        with (
            PageServer(port, Ports()),
            pytest.raises(ServerStartError, match=r"serve --page-port …"),
            PageServer(port, Ports()),
        ):
            pass

    def test_a_port_of_torchserve(self) -> None:
        with pytest.raises(ServerStartError, match=r"8081.*management.*--page-port"):
            PageServer(8081, Ports())

    def test_each_start_has_a_key_of_its_own_and_the_port_is_free_again(self) -> None:
        port, keys = Ports.free().inference, set()
        for _ in range(2):
            with PageServer(port, Ports()) as page:
                keys.add(urlsplit(page.address).fragment)
        assert len(keys) == 2
