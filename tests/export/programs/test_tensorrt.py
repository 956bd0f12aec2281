"""What is written for TensorRT, run by ONNX Runtime: it answers as detectron2, in fp16 nearly."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from d2serve.export.archive.opening import opened
from d2serve.export.errors import ProgramError
from d2serve.export.precision.fp16 import to_fp16
from d2serve.export.programs.tensorrt import fit_to_tensorrt, take_branches
from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config_loading import load_config
from d2serve.handlers.detector import Detector
from d2serve.handlers.digests import sha256_of
from d2serve.handlers.outputs.records import Detections
from d2serve.handlers.spec.bounds import ONNX_BOUNDS
from d2serve.handlers.spec.model_spec import SPEC_FILE, read_spec
from tests.conftest import Exporter, HeldOut, source_of

BLANK = np.zeros((96, 128, 3), np.uint8)


@contextmanager
def changed(archive: Path, folder: Path, change: Callable[[Path], object]) -> Iterator[Detector]:
    """A detector of an ONNX Runtime archive whose program is changed."""
    with opened(archive) as contents:
        shutil.copytree(contents, folder, dirs_exist_ok=True)
    spec = read_spec(folder)
    change(folder / spec.program)
    spec = replace(spec, sha256={spec.program: sha256_of(folder / spec.program)})
    (folder / SPEC_FILE).write_text(spec.to_json())
    with Detector.open(folder) as detector:
        yield detector


@pytest.fixture(scope="module")
def images(held_out: HeldOut) -> list[np.ndarray]:
    return [np.asarray(Image.open(file).convert("RGB")) for file in held_out.images[:4]]


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(load_config(source_of("mask_rcnn_fpn")))


def test_without_branches_it_answers_as_detectron2(
    exported: Exporter, images: list[np.ndarray], oracle: Oracle, tmp_path: Path
) -> None:
    with changed(exported("mask_rcnn_fpn", "onnxruntime"), tmp_path, fit_to_tensorrt) as detector:
        program = onnx.load(tmp_path / detector.spec.program)
        assert {"If", "Loop"}.isdisjoint(node.op_type for node in program.graph.node)
        assert [node.op_type for node in program.graph.node].count("NonMaxSuppression") == 2
        differences = [
            compare(str(index), oracle.answer(image), detector(image), ONNX_BOUNDS)
            for index, image in enumerate([*images, BLANK])
        ]
    assert [each.misses for each in differences] == [()] * 5
    assert sum(each.detections for each in differences) > 40
    assert differences[-1].detections == 0


def _halved(program: Path) -> None:
    fit_to_tensorrt(program)
    proto = onnx.load(program)
    # ResNet-50's convolutions, FPN's and the heads', and what lies between them.
    assert to_fp16(proto) > 100
    onnx.checker.check_model(proto, full_check=True)
    before = program.stat().st_size
    onnx.save(proto, program)
    assert program.stat().st_size < 0.6 * before


def test_in_fp16_it_finds_what_detectron2_is_sure_of(
    exported: Exporter, images: list[np.ndarray], oracle: Oracle, tmp_path: Path
) -> None:
    sure = 0
    with changed(exported("mask_rcnn_fpn", "onnxruntime"), tmp_path, _halved) as detector:
        for image in images:
            expected, got = oracle.answer(image).instances, detector(image).instances
            assert expected is not None
            assert got is not None
            for index in np.flatnonzero(expected.scores > 0.5):
                sure += 1
                nearest = _nearest(got, expected.boxes[index], int(expected.classes[index]))
                assert abs(got.boxes[nearest] - expected.boxes[index]).max() < 0.5
                assert abs(got.scores[nearest] - expected.scores[index]) < 0.01
        assert detector(BLANK).instances is not None
    assert sure > 20


def _nearest(found: Detections, box: np.ndarray, category: int) -> int:
    far = abs(found.boxes - box).max(axis=1)
    return int(np.where(found.classes == category, far, np.inf).argmin())


def _branching(then: str, otherwise: list[onnx.NodeProto]) -> onnx.ModelProto:
    kept = helper.make_tensor_value_info("kept", TensorProto.INT64, ["n"])
    empty = helper.make_tensor("empty", TensorProto.INT64, [0], [])
    first = helper.make_graph(
        [helper.make_node("Constant", [], [then], value=empty)], "then", [], [kept]
    )
    second = helper.make_graph(otherwise, "else", [], [kept])
    node = helper.make_node("If", ["none"], ["answer"], then_branch=first, else_branch=second)
    graph = helper.make_graph(
        [node],
        "program",
        [helper.make_tensor_value_info("none", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("answer", TensorProto.INT64, ["n"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_a_branch_of_another_kind_is_refused(tmp_path: Path) -> None:
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    model = _branching("kept", [helper.make_node("Constant", [], ["kept"], value=one)])
    assert take_branches(model.graph) == 0
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ProgramError, match="has If, in which TensorRT"):
        fit_to_tensorrt(tmp_path / "model.onnx")
