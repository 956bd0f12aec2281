"""Two exports of the same inputs, in two processes, are the same file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from d2serve.handlers.bundle import read_bundled_spec
from d2serve.handlers.digests import sha256_of
from tests.conftest import ROOT, config_of

WAYS = {
    "tracing": (),
    "scripting": ("--export-method", "scripting"),
    "onnxruntime": ("--format", "onnx"),
    "openvino": ("--format", "onnx", "--runtime", "openvino"),
}
# Those whose making has most steps of its own.
SOON = ("scripting", "openvino")


@pytest.mark.export
@pytest.mark.parametrize(
    "way", [way if way in SOON else pytest.param(way, marks=pytest.mark.long) for way in WAYS]
)
def test_two_exports_give_the_same_bytes(way: str, tmp_path: Path) -> None:
    config = config_of("retinanet")
    code = "from d2serve.cli.app import main; main()"
    exports = []
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        differing = {"PYTHONHASHSEED": number, "TMPDIR": str(tmp_path / number)}
        exports.append(
            subprocess.Popen(
                [
                    *(sys.executable, "-c", code, "export", "--config-file", str(config)),
                    *("--import", "examples.shapes.dataset"),
                    *("--output", str(tmp_path / number / "store"), *WAYS[way]),
                ],
                cwd=ROOT,
                env={**os.environ, **differing},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    told = [process.communicate()[0] for process in exports]
    assert [process.returncode for process in exports] == [0, 0], told
    first, second = (tmp_path / number / "store" / "retinanet.mar" for number in ("1", "2"))
    assert first.read_bytes() == second.read_bytes()
    provenance = read_bundled_spec(first).provenance
    assert provenance is not None
    assert (provenance.config, provenance.weights) == ("retinanet.yaml", "retinanet.pth")
    assert provenance.weights_sha256 == sha256_of(config.with_name("retinanet.pth"))
