"""Every family's TensorFlow program answers what its ONNX program answers, images of any size.

That an ONNX program answers as detectron2 does is known from the export that wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import psutil
import pytest
from PIL import Image

pytest.importorskip("d2serve.export.programs.tensorflow", reason="TensorFlow is not installed")

import tensorflow as tf

from d2serve.export.archive.opening import opened
from d2serve.export.programs.tensorflow.converting import Converted, convert
from d2serve.handlers.runtimes.details import ALL
from d2serve.handlers.spec.bounds import ONNX_BOUNDS
from d2serve.handlers.spec.output_names import BOXES, PROPOSAL_BOXES, SEM_SEG
from tests.conftest import FAMILIES, MODELS, STUFF_MODELS, Exporter, HeldOut

KIND = "onnxruntime"
IN_THE_GATE = ("mask_rcnn_fpn", "swin_mask_rcnn")
"""Whose ONNX programs other tests of the gate need, too."""
CASES = [
    pytest.param(model, marks=() if model in IN_THE_GATE else (pytest.mark.long,))
    for model in (*MODELS, *(model for model, kinds in FAMILIES.items() if KIND in kinds))
]
SIZES = ((256, 320), (192, 256), (320, 224), (250, 331))
Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def program_of(
    exported: Exporter, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The .onnx file of an example model, taken out of its archive."""

    def take(model: str) -> Path:
        target = tmp_path_factory.mktemp(model) / "model.onnx"
        with opened(exported(model, KIND)) as contents:
            target.write_bytes((contents / "model.onnx").read_bytes())
        return target

    return take


def pixels(file: Path, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(3, height, width), blue first."""
    with Image.open(file) as image:
        resized = image.convert("RGB").resize(size[::-1])
    return np.ascontiguousarray(np.asarray(resized, np.float32)[:, :, ::-1].transpose(2, 0, 1))


def answer_of(converted: Converted, image: npt.NDArray[np.float32]) -> Arrays:
    given = {"image": tf.constant(image)}
    for each in converted.function.inputs:
        name = each.name.partition(":")[0]
        if name == "detail_scores":  # a class each: all instances get their masks
            given[name] = tf.fill(each.shape, np.float32(-np.inf))
        elif name == "detail_most":
            given[name] = tf.constant(ALL, tf.int64)
    answers = converted.function(**given)
    return {name: each.numpy() for name, each in answers.items()}


@pytest.mark.parametrize("model", CASES)
def test_answers_as_the_onnx_program_does(
    model: str, program_of: Callable[[str], Path], held_out: HeldOut, stuff_held_out: HeldOut
) -> None:
    program = program_of(model)
    converted = convert(program)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(program), options)
    names = [each.name for each in session.get_outputs()]
    files = (stuff_held_out if model in STUFF_MODELS else held_out).images
    images = [pixels(file, size) for file, size in zip(files, SIZES)]
    images += [np.zeros((3, 64, 64), np.float32), np.full((3, 77, 200), 128, np.float32)]
    counts = []
    for image in images:
        expected: Arrays = dict(zip(names, session.run(names, {"image": image})))
        got = answer_of(converted, image)
        assert got.keys() == expected.keys()
        for name, one in expected.items():
            assert (got[name].dtype, got[name].shape) == (one.dtype, one.shape), name
            boxes = name in (BOXES, PROPOSAL_BOXES)
            bound = ONNX_BOUNDS.box_px if boxes else ONNX_BOUNDS.score
            np.testing.assert_allclose(got[name], one, rtol=1e-5, atol=bound, err_msg=name)
        first = next(iter(expected))
        counts.append(0 if first == SEM_SEG else len(expected[first]))
    if names != [SEM_SEG]:
        assert sum(counts[: len(SIZES)]) > 30
    if model in IN_THE_GATE:
        assert 0 in counts


def test_no_size_is_traced_again_and_none_is_kept(
    program_of: Callable[[str], Path], held_out: HeldOut
) -> None:
    converted = convert(program_of("mask_rcnn_fpn"))
    graph = converted.function.graph
    nodes = len(graph.get_operations())
    process = psutil.Process()

    def ask(count: int) -> int:
        for index in range(count):
            size = (96 + 8 * (index % 13), 100 + 4 * (index % 29))
            answer_of(converted, pixels(held_out.images[index % 50], size))
        return int(process.memory_info().rss)

    before = ask(60)
    assert ask(60) - before < 30 * 2**20
    assert converted.function.graph is graph
    assert len(graph.get_operations()) == nodes
