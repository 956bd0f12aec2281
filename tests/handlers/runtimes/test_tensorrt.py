"""d2serve.handlers.runtimes.tensorrt: what can be said of it where there is no GPU."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from d2serve.export.errors import ConfigError
from d2serve.export.pipeline import export
from d2serve.export.reading.config import ConfigSource
from d2serve.export.request import ExportRequest, Progress
from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.loading import load_runtime
from d2serve.handlers.spec.runtimes import RUNTIMES
from tests.conftest import config_of
from tests.handlers.samples import spec_with

FACTS = RUNTIMES["tensorrt"]

without_tensorrt = pytest.mark.skipif(
    find_spec(FACTS.package) is not None, reason="tensorrt is installed here"
)


@without_tensorrt
def test_a_worker_without_it_is_told_what_to_install(tmp_path: Path) -> None:
    spec = spec_with(runtime=FACTS.name, program=FACTS.main_file, sha256={})
    with pytest.raises(LoadError, match=r"runtime TensorRT.*'d2serve\[tensorrt\]'"):
        load_runtime(tmp_path, spec, "cuda:0")


@without_tensorrt
def test_an_export_without_it_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs tensorrt.*'d2serve\[export-tensorrt\]'"):
        _export(tmp_path, "fp32")


def test_an_export_without_a_gpu_stops_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2serve.export.pipeline._check_installed", lambda _request: None)
    with pytest.raises(ConfigError, match=r"--runtime tensorrt needs a GPU.*MODEL\.DEVICE cuda"):
        _export(tmp_path, "fp32")


def test_int8_is_not_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="int8 is there for OpenVINO only"):
        _export(tmp_path, "int8")


def _export(folder: Path, precision: str) -> None:
    request = ExportRequest(
        source=ConfigSource(str(config_of("mask_rcnn_fpn"))),
        method="tracing",
        name="m",
        output=folder,
        format="onnx",
        runtime="tensorrt",
        precision=precision,
    )
    export(request, Progress(lambda _step, _parts: None, lambda: None))
