"""ONNX Runtime answers alike with 1x1 convolutions of ours, with what is added to them, and with
the deconvolutions before them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from d2serve.kernels.library import library
from d2serve.kernels.onnxruntime.program import WinogradProgram
from tests.kernels.onnx_drawing import Drawing, assert_answers_stay, drawn, options, own_answers

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels are installed")

C = 20


def own(file: Path) -> WinogradProgram:
    return WinogradProgram(file, None, where_it_pays=False)


def operators(program: WinogradProgram) -> list[str]:
    """What the edited program consists of, in order."""
    edited = onnx.load_from_string(program.edited(options(1), 1))
    return [node.op_type for node in edited.graph.node]


def doubled(d: Drawing, x: str, mode: str = "nearest") -> str:
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), f"s{len(d.constants)}")
    d.constants.append(scales)
    return d.add(
        "Resize",
        x,
        "",
        scales.name,
        mode=mode,
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )


def points(d: Drawing, x: str, outs: int = C, ins: int = C, **how: object) -> str:
    return d.conv(x, d.constant(outs, ins, 1, 1), d.constant(outs), pad=0, **how)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_backbone_with_its_pyramid(tmp_path: Path, threads: int) -> None:
    d = Drawing()
    block = d.add("Relu", points(d, "x", ins=3))
    # Both sides of a sum are convolutions: it goes with one of them.
    shortcut = points(d, block, 2 * C, strides=[2, 2])
    inner = d.add("Relu", points(d, block, strides=[2, 2]))
    block2 = d.add("Relu", d.add("Add", points(d, inner, 2 * C), shortcut))
    inner2 = d.add("Relu", points(d, block2, C, 2 * C))
    block3 = d.add("Relu", d.add("Add", block2, points(d, inner2, 2 * C)))
    top = points(d, block3, C, 2 * C)
    pyramid = d.add("Add", points(d, block), doubled(d, top))
    file = d.save(tmp_path / "m.onnx", 3, [top, pyramid])
    program = own(file)
    images = [drawn(*shape) for shape in [(1, 3, 40, 52), (2, 3, 6, 98), (1, 3, 2, 2)]]
    assert_answers_stay(file, program, images, threads)
    assert program.points == 8
    assert set(operators(program)) == {"Pointwise"}


def test_sums_that_broadcast(tmp_path: Path) -> None:
    d = Drawing()
    mean = d.add("GlobalAveragePool", "x")
    one_image = d.add("ReduceMean", "x", axes=[0])
    vector = d.add("ReduceMean", "x", axes=[0], keepdims=0)
    one_channel = d.add("ReduceMean", "x", axes=[1])
    sums = [d.add("Add", points(d, "x"), other) for other in (mean, one_image, vector, one_channel)]
    # The convolution's result is the smaller one.
    sums += [d.add("Relu", d.add("Add", x, points(d, mean))) for x in ("x", one_image)]
    sums += [d.add("Add", points(d, mean), doubled(d, "x"))]
    program = own(file := d.save(tmp_path / "m.onnx", C, sums))
    assert_answers_stay(file, program, [drawn(2, C, 7, 10), drawn(1, C, 4, 3)], 2)
    assert operators(program).count("Pointwise") == 7
    assert "Add" not in operators(program)


def test_sums_that_stay_apart(tmp_path: Path) -> None:
    d = Drawing()
    constant = d.add("Add", points(d, "x"), d.constant(C, 1, 1))
    attention = d.add("Add", points(d, "x", outs=1), "x")
    used_twice = points(d, "x")
    twice = d.add("Add", used_twice, "x")
    other_mode = d.add("Add", points(d, doubled(d, "x")), doubled(d, "x", mode="linear"))
    strided = d.add("Add", points(d, doubled(d, "x"), strides=[2, 2]), "x")
    outputs = [constant, attention, used_twice, twice, other_mode, strided]
    program = own(file := d.save(tmp_path / "m.onnx", C, outputs))
    assert_answers_stay(file, program, [drawn(2, C, 7, 10)], 1)
    # Of a mode that is not ours only the sum is taken.
    kept = operators(program)
    assert (kept.count("Add"), kept.count("Pointwise"), kept.count("Resize")) == (4, 5, 3)


def test_a_sum_of_other_sizes_ends_the_call_only(tmp_path: Path) -> None:
    d = Drawing()
    end = d.add("Add", points(d, "x"), d.add("Transpose", "x", perm=[0, 1, 3, 2]))
    program = own(d.save(tmp_path / "m.onnx", C, [end]))
    with pytest.raises(Exception, match="another size than its result"):
        own_answers(program, [drawn(1, C, 4, 6)], 1)
    ((found,),) = own_answers(program, [drawn(1, C, 4, 4)], 1)
    assert found.shape == (1, C, 4, 4)


@pytest.mark.parametrize("threads", [1, 2])
def test_mask_heads(tmp_path: Path, threads: int) -> None:
    """Also one whose deconvolution something else takes, which stays."""
    d = Drawing()
    grown = d.add("ConvTranspose", "x", d.constant(C, 24, 2, 2), d.constant(24), strides=[2, 2])
    masks = d.add("Sigmoid", points(d, d.add("Relu", grown), 5, 24))
    plain = d.add("ConvTranspose", "x", d.constant(C, 7, 2, 2), strides=[2, 2])
    last = d.add("Relu", points(d, plain, 3, 7))
    taken = d.add("ConvTranspose", "x", d.constant(C, 6, 2, 2), strides=[2, 2])
    beside = points(d, taken, 3, 6)
    program = own(file := d.save(tmp_path / "m.onnx", C, [masks, last, taken, beside]))
    assert_answers_stay(file, program, [drawn(3, C, 14, 14), drawn(1, C, 1, 5)], threads)
    assert operators(program) == [
        "Deconvolution", "Sigmoid", "Deconvolution", "ConvTranspose", "Pointwise"
    ]  # fmt: skip


def test_no_instances(tmp_path: Path) -> None:
    d = Drawing()
    grown = d.add("ConvTranspose", "x", d.constant(C, 8, 2, 2), strides=[2, 2])
    outputs = [points(d, grown, 5, 8), d.add("Add", points(d, "x"), "x")]
    program = own(d.save(tmp_path / "m.onnx", C, outputs))
    ((masks, added),) = own_answers(program, [np.zeros((0, C, 14, 14), np.float32)], 1)
    assert (masks.shape, added.shape) == ((0, 5, 28, 28), (0, C, 14, 14))


def test_only_beside_a_convolution_of_ours(tmp_path: Path) -> None:
    d = Drawing()
    alone = points(d, d.add("Sigmoid", points(d, "x")))
    ours = d.add("Relu", d.conv(d.add("Tanh", alone), d.constant(C, C, 3, 3)))
    beside = d.add("Add", points(d, ours), points(d, alone))
    file = d.save(tmp_path / "m.onnx", C, [beside])
    program = WinogradProgram(file, None, where_it_pays=True)
    kept = operators(program)
    if program.convolutions == 0:
        pytest.skip("this CPU has no instructions that native code is written for")
    assert (kept.count("Pointwise"), kept.count("Conv")) == (2, 2)
