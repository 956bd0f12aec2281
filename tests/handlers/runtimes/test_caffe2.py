"""A network of Caffe2 is served as any other program: by its spec, on the threads asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from d2serve.handlers.detector import Detector
from d2serve.handlers.digests import sha256_of
from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes import caffe2 as caffe2_runtime
from d2serve.handlers.spec.model_spec import SPEC_FILE, ModelSpec, read_spec
from tests.handlers.netdef.nets import BOXES, SCORES, mask_rcnn, write
from tests.handlers.samples import spec_with

OUTPUTS = ("pred_boxes", "scores", "pred_classes", "pred_masks")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def archive(folder: Path, **changes: Any) -> Path:
    """As TorchServe extracts one."""
    write(folder, mask_rcnn())
    spec = {
        "method": "tracing",
        "runtime": "caffe2",
        "program": "model.pb",
        "outputs": OUTPUTS,
        "dynamic_batch": False,
        "sha256": {name: sha256_of(folder / name) for name in ("model.pb", "model_init.pb")},
        **changes,
    }
    (folder / SPEC_FILE).write_text(spec_with(**spec).to_json())
    return folder


def test_it_answers_through_the_detector(tmp_path: Path) -> None:
    detector = Detector.open(archive(tmp_path))
    small, large = np.full((40, 50, 3), 9, np.uint8), np.full((80, 100, 3), 9, np.uint8)
    for outputs in detector([small, large]):
        found = outputs.instances
        assert found is not None
        assert found.scores.tolist() == sorted(SCORES, reverse=True)
        np.testing.assert_array_equal(found.boxes, BOXES[::-1])
        assert found.masks is not None


def loaded(folder: Path, threads: int = 1, **changes: Any) -> caffe2_runtime.Caffe2Runtime:
    archive(folder)
    spec: ModelSpec = replace(read_spec(folder), **changes)
    return caffe2_runtime.load(folder / "model.pb", spec, "cpu", threads)


def test_only_what_the_spec_names_is_answered(tmp_path: Path) -> None:
    runtime = loaded(tmp_path, outputs=OUTPUTS[:3])
    (raw,) = runtime.run([np.zeros((3, 20, 30), np.float32)])
    assert tuple(raw) == OUTPUTS[:3]
    assert {name: value.dtype.name for name, value in raw.items()} == {
        "pred_boxes": "float32",
        "scores": "float32",
        "pred_classes": "int64",
    }


def test_it_keeps_its_threads(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    runtime = loaded(tmp_path, before + 1)
    torch.set_num_threads(before + 3)
    runtime.run([np.zeros((3, 20, 30), np.float32)])
    assert torch.get_num_threads() == before + 1
    runtime.set_threads(before + 2)
    runtime.run([np.zeros((3, 20, 30), np.float32)])
    assert torch.get_num_threads() == before + 2
    assert not runtime.on_gpu


def test_a_gpu_is_refused(tmp_path: Path) -> None:
    archive(tmp_path)
    with pytest.raises(LoadError, match=r"run on cuda:0, but Caffe2's networks run on the CPU"):
        caffe2_runtime.load(tmp_path / "model.pb", read_spec(tmp_path), "cuda:0", 1)


def test_another_program_than_the_spec_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"answers pred_boxes.*, without pred_keypoints"):
        loaded(tmp_path, outputs=(*OUTPUTS, "pred_keypoints"))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    archive(tmp_path)
    weights = tmp_path / "model_init.pb"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(LoadError, match=r"model_init\.pb has sha256 "):
        Detector.open(tmp_path)
    with pytest.raises(LoadError, match=r"model_init\.pb is no network of Caffe2 \(.*left\)"):
        caffe2_runtime.load(tmp_path / "model.pb", read_spec(tmp_path), "cpu", 1)
