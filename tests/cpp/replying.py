"""Asks ``d2serve_replies``, a program of examples/cpp/tests, for replies to a program's outputs."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from d2serve.handlers.requests.preprocessing import ModelInput
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from d2serve.handlers.spec.model_spec import ModelSpec

Reply = dict[str, Any]


class Replies:
    """The program, which answers a line at a time for as long as the tests run."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, raw: RawOutputs, image: ModelInput, spec: ModelSpec) -> Reply:
        """The reply to a program's outputs, or ``{"error": ...}``."""
        line = {
            "spec": spec.to_json(),
            "image": [image.height, image.width, *image.resized],
            "outputs": {
                name: {
                    "dtype": values.dtype.name,
                    "shape": list(values.shape),
                    "data": np.ascontiguousarray(values).tobytes().hex(),
                }
                for name, values in raw.items()
            },
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"d2serve_replies ended with {self._process.wait()}"
        reply: Reply = json.loads(answer)
        return reply

    def close(self) -> None:
        """End it; it must end well."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=60) == 0


def differences(expected: object, got: object, within: float = 0.0, where: str = "") -> list[str]:
    """Where two replies differ, in words: in keys and their order, in texts, numbers, and pixels.

    Args:
        expected, got: parsed JSON.
        within: how far two numbers with a fraction may lie apart.
        where: of both, in the whole reply.
    """
    pairs: list[tuple[str, object, object]]
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        if list(expected) != list(got):
            return [f"{where}: {list(got)}, expected {list(expected)}"]
        pairs = [(f"{where}.{key}", expected[key], got[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            return [f"{where}: {len(got)} of them, expected {len(expected)}"]
        pairs = [(f"{where}[{i}]", *two) for i, two in enumerate(zip(expected, got))]
    else:
        return [] if _same(expected, got, within, where) else [f"{where}: {got}, not {expected}"]
    return [each for place, one, other in pairs for each in differences(one, other, within, place)]


def _same(expected: object, got: object, within: float, where: str) -> bool:
    if type(expected) is not type(got):
        return False
    if isinstance(expected, float) and isinstance(got, float):
        return abs(expected - got) <= within
    if where.endswith(".png") and isinstance(expected, str) and isinstance(got, str):
        return _pixels(expected) == _pixels(got)
    return expected == got


def _pixels(png: str) -> tuple[str, bytes]:
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        return image.mode, image.tobytes()
