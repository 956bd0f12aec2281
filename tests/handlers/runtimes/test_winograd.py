"""Which convolutions an OpenVINO program runs: as its YAML, its record and the machine have it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from d2serve.handlers.digests import sha256_of
from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes import convolution
from d2serve.handlers.runtimes.loading import KeepsMemory, Runtime, load_runtime
from d2serve.kernels.library import library, ways
from tests.handlers.samples import spec_with

GOOD = {"winograd": {"within_bounds": True}}
installed = pytest.mark.skipif(library() is None, reason="no native kernels are installed")
fast = pytest.mark.skipif(len(ways()) < 2, reason="this CPU has none of the fast ways")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    image = op.parameter([3, -1, -1], np.float32, name="image")
    x: ov.Node = op.unsqueeze(image, np.int64(0))
    for outs, ins in ((16, 3), (16, 16), (8, 16)):  # only the second one gains
        weights = random.standard_normal((outs, ins, 3, 3)).astype(np.float32)
        x = op.relu(op.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    model = ov.Model([op.squeeze(x, np.int64(0))], [image], "m")
    ov.save_model(model, tmp_path / "p.xml", compress_to_fp16=False)
    return tmp_path


def loaded(
    folder: Path, choice: str, record: Mapping[str, object] = GOOD, precision: str = "fp32"
) -> Runtime:
    files = {name: sha256_of(folder / name) for name in ("p.xml", "p.bin")}
    spec = spec_with(
        runtime="openvino",
        method="tracing",
        dynamic_batch=False,
        precision=precision,
        program="p.xml",
        sha256=files,
        outputs=(),
        verification=record,
    )
    return load_runtime(folder, spec, "cpu", 1, choice)


def resident(file: Path) -> int:
    """Kilobytes of a mapped file that this process holds."""
    held, found = [], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *values = line.split()
        if "-" in name and not name.endswith(":"):
            found = values[-1] == str(file)
        elif found and name == "Rss:":
            held.append(int(values[0]))
    assert held, f"{file} is not mapped"
    return sum(held)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "Winograd" in message]


@installed
@fast
def test_auto_takes_what_the_export_verified_and_gains(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    loaded(folder, "auto")
    assert said(caplog) == ["shapes runs with Winograd's algorithm in 1 of its 3 3x3 convolutions."]


@installed
@pytest.mark.parametrize(
    ("choice", "record", "precision"),
    [
        ("direct", GOOD, "fp32"),
        ("auto", {}, "fp32"),
        ("auto", {"winograd": {"within_bounds": False}}, "fp32"),
        ("auto", GOOD, "bf16"),
    ],
)
def test_what_stays_as_it_is(
    folder: Path,
    choice: str,
    record: dict[str, object],
    precision: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    loaded(folder, choice, record, precision)
    assert said(caplog) == []
    assert not (folder / "winograd").exists()


@installed
def test_by_name_all_that_fit_are_replaced(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    runtime = loaded(folder, "winograd", {})
    assert said(caplog) == ["shapes runs with Winograd's algorithm in 3 of its 3 3x3 convolutions."]
    runtime.set_threads(2)
    assert runtime.run([np.ones((3, 9, 7), np.float32)]) == [{}]
    assert all(resident(file) for file in (folder / "winograd").iterdir())
    assert isinstance(runtime, KeepsMemory)
    runtime.release_memory()
    files = list((folder / "winograd").iterdir())
    assert len(files) == 3
    assert [resident(file) for file in files] == [0, 0, 0]
    assert runtime.run([np.ones((3, 9, 7), np.float32)]) == [{}]


def test_without_the_native_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "_is_installed", lambda: False)
    with pytest.raises(LoadError, match=r"native code is not in the server's Python\. Install"):
        loaded(folder, "winograd")
    assert loaded(folder, "auto").run([np.ones((3, 9, 7), np.float32)]) == [{}]
