"""A headless Chromium, driven by chromedriver over its own protocol (W3C WebDriver)."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psutil
import pytest

from d2serve.server.torchserve.config.ports import Ports, is_busy

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs a headless Chromium: apt-get install chromium chromium-driver",
)
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # root may not have one
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """One window, within ``with``; takes any certificate."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        """
        Args:
            folder: for its profile and log.
            arguments: of Chromium, beside those that all have.
        """
        self._folder = folder
        self._arguments = arguments
        self._port = Ports.free().inference
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{self._port}", timeout=120, trust_env=False
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._session = ""

    def __enter__(self) -> Browser:
        assert DRIVER is not None
        log = self._folder / "chromedriver.log"
        self._process = subprocess.Popen([DRIVER, f"--port={self._port}", f"--log-path={log}"])
        try:
            deadline = time.monotonic() + 30
            while not is_busy(self._port):
                assert time.monotonic() < deadline, "chromedriver does not listen"
                time.sleep(0.05)
            options = {
                "binary": CHROMIUM,
                "args": [
                    *_ARGUMENTS,
                    *self._arguments,
                    f"--user-data-dir={self._folder / 'profile'}",
                ],
            }
            wishes = {
                "acceptInsecureCerts": True,
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "WARNING"},
            }
            self._session = self._ask("", {"capabilities": {"alwaysMatch": wishes}})["sessionId"]
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def open(self, address: str) -> None:
        self._ask("/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns, or what its promise is kept with."""
        return self._ask("/execute/sync", {"script": script, "args": list(arguments)})

    def choose(self, element: str, file: Path) -> None:
        """Choose a file in an input by its id, as a user does."""
        self._ask(f"/element/{self._found(element)}/value", {"text": str(file)})

    def click(self, element: str) -> None:
        """Click an element by its id, as a user does."""
        self._ask(f"/element/{self._found(element)}/click", {})

    def complaints(self) -> list[str]:
        """What Chromium has written to the console since the last time: errors and warnings."""
        return [str(each["message"]) for each in self._ask("/se/log", {"type": "browser"})]

    def allow(self, what: str) -> None:
        """Grant the page a permission."""
        self._ask("/permissions", {"descriptor": {"name": what}, "state": "granted"})

    def size(self, width: int, height: int) -> None:
        """Make the window as large, in pixels."""
        self._ask("/window/rect", {"width": width, "height": height})

    def screenshot(self) -> bytes:
        """The window as a PNG."""
        answer = self._http.get(f"/session/{self._session}/screenshot").json()["value"]
        return base64.b64decode(answer)

    def text(self, element: str, seconds: float = 60) -> str:
        """The text of an element by its id, once it has one."""
        deadline = time.monotonic() + seconds
        while True:
            found = str(self.run(f"return document.getElementById('{element}').textContent"))
            if found:
                return found
            assert time.monotonic() < deadline, f"#{element} stays empty"
            time.sleep(0.1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        members = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        for member in members:
            if member.is_running():
                member.kill()
        psutil.wait_procs(members, timeout=10)
        self._process.wait(timeout=10)
        self._http.close()

    def _found(self, element: str) -> str:
        found = self._ask("/element", {"using": "css selector", "value": f"#{element}"})
        (reference,) = found.values()
        return str(reference)

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        at = f"/session/{self._session}{path}" if self._session else "/session"
        answer = self._http.post(at, json=body).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer
