"""The page as it stands open in a Chromium, and what a user does with it."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.deploy.proxy.browser import Browser

DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), letter => letter.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], arguments[1]));
const event = arguments[2] === "paste"
  ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
  : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
document.body.dispatchEvent(event);
"""
SECONDS = 60


class OpenedPage:
    """One window."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser = browser
        browser.open("about:blank")  # an address that differs behind the # only loads nothing
        browser.open(address)
        self.wait_for("document.getElementById('model').length > 0")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.run(script, *arguments)

    def wait_for(self, condition: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < deadline, (
                condition,
                self.run("return document.body.innerText"),
            )
            time.sleep(0.05)

    def text(self, element: str) -> str:
        return str(self.run("return document.getElementById(arguments[0]).textContent", element))

    def drop(self, photo: bytes, name: str, way: str = "drop") -> str:
        """Drop a photo and wait until it is answered, or not; returns what the page says then."""
        self.run("document.getElementById('status').textContent = ''")
        self.run(DROP, base64.b64encode(photo).decode(), name, way)
        self.wait_for("/answered|cannot be/.test(document.getElementById('status').textContent)")
        return self.text("status")

    def choose(self, element: str, value: str) -> None:
        """Choose an option of a list, whose photo is asked about again."""
        script = """
            const list = document.getElementById(arguments[0]);
            document.getElementById('status').textContent = '';
            list.value = arguments[1];
            list.dispatchEvent(new Event('change'));
            return list.value;
        """
        assert self.run(script, element, value) == value
        self.settle()

    def settle(self) -> None:
        """Wait until a frame has been drawn."""
        self.run(
            "return new Promise(done => setTimeout(() => requestAnimationFrame(() => done()), 80))"
        )

    def threshold(self, value: float) -> None:
        script = """
            const slider = document.getElementById('threshold');
            slider.value = arguments[0];
            slider.dispatchEvent(new Event('input'));
        """
        self.run(script, value)
        self.settle()

    def view(self, name: str) -> None:
        self.run("document.querySelector(`input[value=${arguments[0]}]`).click()", name)
        self.settle()

    def found(self) -> list[list[str]]:
        """Name, and score or area, of each line of the list."""
        lines = "document.querySelectorAll('#found li')"
        script = (
            f"return [...{lines}].map(line => [...line.children].map(each => each.textContent))"
        )
        listed: list[list[str]] = self.run(script)
        return listed

    def json(self) -> dict[str, Any]:
        """The answer as the page shows it."""
        self.run("document.getElementById('json').open = true")
        self.wait_for("document.querySelector('#json pre').textContent")
        shown: dict[str, Any] = json.loads(
            self.run("return document.querySelector('#json pre').textContent")
        )
        return shown

    def pixels(self) -> NDArray[np.int16]:
        """What the canvas shows, (H, W, 3)."""
        self.settle()
        data = self.run("return document.getElementById('canvas').toDataURL('image/png')")
        with Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as shown:
            return np.asarray(shown.convert("RGB"), np.int16)

    def requests(self) -> int:
        """How many predictions were asked for since the page was opened."""
        names = "performance.getEntriesByType('resource').map(each => each.name)"
        return int(self.run(f"return {names}.filter(name => name.includes('/predict?')).length"))
