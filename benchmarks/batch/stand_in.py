"""Images that take the time of a model without its work, so that a cluster fits onto two cores."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass

from PIL import Image

SECONDS = 0.1
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Sleeper:
    """A small image that is there after a time, one after another in a process."""

    name: str

    def read(self) -> bytes:
        """Its bytes."""
        with _ONE_AT_A_TIME:
            time.sleep(SECONDS)
        file = io.BytesIO()
        Image.new("RGB", (32, 24), (90, 90, 90)).save(file, "PNG")
        return file.getvalue()
