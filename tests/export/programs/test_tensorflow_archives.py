"""An export for TensorFlow packs a SavedModel, or one frozen graph, and workers answer with it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from d2serve.export.pipeline import export
from d2serve.export.reading.samples import builtin_sample
from d2serve.export.request import ExportRequest, Progress
from d2serve.handlers.detector import Detector
from d2serve.handlers.spec.runtimes import TENSORFLOW
from tests.exports import source_of
from tests.ways import skipped

QUIET = Progress(lambda _step, _parts: None, lambda: None)
pytestmark = [pytest.mark.export, *skipped(TENSORFLOW)]
SAVED = {
    "saved_model.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
}


@pytest.mark.parametrize("frozen", [True, pytest.param(False, marks=pytest.mark.long)])
def test_an_archive_holds_one_program(frozen: bool, tmp_path: Path) -> None:
    request = ExportRequest(
        source_of("faster_rcnn_fpn"),
        "tracing",
        "tiny",
        output=tmp_path,
        format="tensorflow",
        frozen=frozen,
    )
    result = export(request, QUIET)
    files = {"frozen_graph.pb"} if frozen else SAVED
    assert set(result.spec.sha256) == files
    assert result.spec.program == next(name for name in files if name.endswith(".pb"))
    assert result.spec.versions.keys() >= {"tensorflow", "onnx"}
    with zipfile.ZipFile(result.archive) as archive:
        names = set(archive.namelist())
        assert files <= names
        assert not [name for name in names - files if name.endswith((".pb", ".onnx", ".index"))]
        assert "torch.py" in names
    assert sum(each["detections"] for each in result.spec.verification["differences"]) > 50
    with Detector.open(result.archive, threads=1) as detector:
        (answer,) = detector([builtin_sample()])
    assert answer.instances is not None
    assert len(answer.instances) > 5
