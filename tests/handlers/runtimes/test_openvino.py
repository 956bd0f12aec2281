"""An OpenVINO program is served in the precision asked for, or the log says why it is not."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import psutil
import pytest
from openvino import opset13 as op

from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes import cpu_features
from d2serve.handlers.runtimes import openvino as openvino_runtime
from d2serve.handlers.runtimes.cpu_features import slow_precision
from d2serve.handlers.spec.model_spec import ModelSpec
from tests.handlers.samples import spec_with

OUTPUTS = ("pred_boxes", "scores", "pred_classes")
BF16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def spec(precision: str = "fp32", **changes: Any) -> ModelSpec:
    fields = {"runtime": "openvino", "method": "tracing", "dynamic_batch": False, **changes}
    return spec_with(precision=precision, program="p.xml", sha256={"p.xml": ""}, **fields)


def model(rank: int = 3) -> ov.Model:
    """One instance: (0, 0, width, height) / 2 as box, the mean as score, its class 5."""
    image = op.parameter([3, -1, -1][:rank], np.float32, name="image")
    axes = np.arange(rank)
    height_width = op.convert(op.gather(op.shape_of(image), np.array([-1, -2]), 0), "f32")
    half = op.multiply(height_width, np.float32(0.5))
    boxes = op.unsqueeze(op.concat([np.zeros(2, np.float32), half], 0), np.int64(0))
    # A range of [0, 255] in 256 steps changes no whole number, but its mean does change.
    rounded = op.fake_quantize(image, *np.array([[0], [255], [0], [255]], np.float32), levels=2)
    score = op.divide(op.reduce_mean(rounded, axes, False), np.float32(255))
    scores = op.reshape(score, np.array([1]), False)
    classes = op.constant(np.array([5]))
    answers = [
        boxes,
        scores,
        op.add(classes, op.convert(op.multiply(scores, np.float32(0)), "i64")),
    ]
    for node, name in zip(answers, OUTPUTS):
        node.output(0).set_names({name})
    return ov.Model(answers, [image], "m")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    ov.save_model(model(), tmp_path / "p.xml", compress_to_fp16=False)
    return tmp_path / "p.xml"


def image_of(value: float, height: int = 10, width: int = 20) -> np.ndarray[Any, Any]:
    return np.full((3, height, width), value, np.float32)


def test_it_answers_each_image_by_name(program: Path) -> None:
    runtime = openvino_runtime.load(program, spec(), "cpu", 1)
    first, second = runtime.run([image_of(255), image_of(0, 30, 40)])
    assert list(first) == list(OUTPUTS)
    assert first["pred_boxes"].tolist() == [[0, 0, 10, 5]]
    assert second["pred_boxes"].tolist() == [[0, 0, 20, 15]]
    assert (first["scores"].tolist(), second["scores"].tolist()) == ([1], [0])
    assert first["pred_classes"].tolist() == [5]
    assert first["pred_classes"].dtype == np.int64
    assert not runtime.on_gpu


def test_images_need_not_be_contiguous(program: Path) -> None:
    (answer,) = openvino_runtime.load(program, spec(), "cpu", 1).run([image_of(255)[:, :, ::2]])
    assert answer["pred_boxes"].tolist() == [[0, 0, 5, 5]]


def compiled(runtime: openvino_runtime.OpenVinoRuntime) -> ov.CompiledModel:
    runtime.run([image_of(1)])
    return runtime._requests.call(lambda request: request.get_compiled_model())


def test_threads_change_with_the_next_call(program: Path) -> None:
    runtime = openvino_runtime.load(program, spec(), "cpu", 1)
    runtime.set_threads(1)
    before = compiled(runtime)
    assert before.get_property("INFERENCE_NUM_THREADS") == 1
    runtime.set_threads(1)
    kept = runtime._requests._session
    assert kept is not None
    runtime.run([image_of(1)])
    assert runtime._requests._session is kept
    runtime.set_threads(2)
    assert runtime.threads == 2
    after = compiled(runtime)
    assert after.get_property("INFERENCE_NUM_THREADS") == 2
    assert after.get_property("NUM_STREAMS") == 1


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", "f32"), ("bf16", "bf16"), ("int8", "bf16")]
)
def test_the_precision_is_always_said(program: Path, precision: str, expected: str) -> None:
    """OpenVINO's own choice for an fp32 program is bf16, where there is bf16."""
    runtime = openvino_runtime.load(program, spec(precision), "cpu", 1)
    hint = compiled(runtime).get_property("INFERENCE_PRECISION_HINT").to_string()
    assert hint == (expected if BF16 else "f32")


def test_without_vnni_int8_is_taken_out(
    program: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cpu_features, "_flags", lambda: frozenset({"avx2"}))
    with caplog.at_level(logging.WARNING):
        runtime = openvino_runtime.load(program, spec("int8"), "cpu", 1)
    (line,) = caplog.messages
    assert "shapes is in int8, but no int8 dot products (VNNI)" in line
    assert line.endswith("it runs in fp32.")
    (answer,) = runtime.run([image_of(102)])
    assert answer["scores"].tolist() == pytest.approx([0.4])  # with FakeQuantize: 0
    assert compiled(runtime).get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


def test_what_a_cpu_must_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_features, "_flags", lambda: frozenset({"avx_vnni"}))
    assert slow_precision("fp32", []) is None
    assert slow_precision("int8", []) is None
    assert slow_precision("bf16", ["FP32", "BF16"]) is None
    assert "no bf16 instructions" in str(slow_precision("bf16", ["FP32", "INT8"]))


@pytest.mark.parametrize("flags", ["flags\t\t: fpu avx512_vnni", "Features\t: fp asimddp"])
def test_flags_of_x86_and_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
    monkeypatch.setattr(cpu_features, "_CPUINFO", tmp_path / "cpuinfo")
    assert slow_precision("int8", []) is None
    monkeypatch.setattr(cpu_features, "_CPUINFO", tmp_path / "none")
    assert slow_precision("int8", []) is not None


def test_outputs_that_the_spec_does_not_know(program: Path) -> None:
    with pytest.raises(LoadError, match=r"without \['pred_masks'\]. Export the model again"):
        openvino_runtime.load(program, spec(outputs=(*OUTPUTS, "pred_masks")), "cpu", 1)


def test_an_input_that_is_no_image(tmp_path: Path) -> None:
    ov.save_model(model(rank=2), tmp_path / "p.xml")
    with pytest.raises(LoadError, match=r"expected one image \[3,\?,\?\]"):
        openvino_runtime.load(tmp_path / "p.xml", spec(), "cpu", 1)


@pytest.mark.parametrize("damage", ["text", "half", "no weights"])
def test_a_damaged_program(program: Path, damage: str) -> None:
    if damage == "no weights":
        program.with_suffix(".bin").unlink()
    else:
        program.write_text("no" if damage == "text" else program.read_text()[:2000])
    with pytest.raises(LoadError, match=r"cannot load p.xml, .*OpenVINO 9\.8\.7.*export again"):
        openvino_runtime.load(program, spec(versions={"openvino": "9.8.7"}), "cpu", 1)


def test_no_gpu(program: Path) -> None:
    with pytest.raises(LoadError, match="run on cuda:0, but OpenVINO programs run on the CPU"):
        openvino_runtime.load(program, spec(), "cuda:0", 1)


def test_threads_that_cannot_be_had_leave_the_program_as_it_was(
    program: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = openvino_runtime.load(program, spec(), "cpu", 1)
    compiled(runtime)
    compile_model = ov.Core.compile_model

    def failing(core: ov.Core, model: ov.Model, device: str, settings: Any) -> ov.CompiledModel:
        if settings["INFERENCE_NUM_THREADS"] == 7:
            raise RuntimeError("no room for 7 threads")
        return compile_model(core, model, device, settings)

    monkeypatch.setattr(ov.Core, "compile_model", failing)
    runtime.set_threads(7)
    (answer,) = runtime.run([image_of(255)])
    assert answer["scores"].tolist() == [1]
    assert runtime.threads == 1
    assert compiled(runtime).get_property("INFERENCE_NUM_THREADS") == 1
    assert "cannot be loaded for 7 threads; it stays at 1" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_is_kept_between_calls_can_be_given_up(tmp_path: Path) -> None:
    """32 feature maps of a megapixel each, which OpenVINO keeps for the next call."""
    wide = model()
    image = wide.input(0).get_node()
    batch = op.unsqueeze(image, np.int64(0))
    kernel = np.random.default_rng(0).random((32, 3, 3, 3), np.float32)
    maps = op.convolution(batch, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    mean = op.reduce_mean(op.convolution(maps, kernel.mean() * np.ones((8, 32, 1, 1), np.float32),
        [1, 1], [0, 0], [0, 0], [1, 1]), np.arange(4), False)  # fmt: skip
    mean.output(0).set_names({"mean"})
    wide.add_outputs([mean.output(0)])
    ov.save_model(wide, tmp_path / "p.xml", compress_to_fp16=False)
    runtime = openvino_runtime.load(tmp_path / "p.xml", spec(outputs=(*OUTPUTS, "mean")), "cpu", 1)
    (before,) = runtime.run([image_of(7, 1000, 1000)])
    kept = psutil.Process().memory_info().rss
    runtime.release_memory()
    assert kept - psutil.Process().memory_info().rss > 100e6
    (after,) = runtime.run([image_of(7, 1000, 1000)])
    assert {name: value.tolist() for name, value in after.items()} == {
        name: value.tolist() for name, value in before.items()
    }


def test_openvino_that_keeps_old_shapes_does_so(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one knows the setting; another may not, and serves all the same."""
    core = ov.Core()
    core.set_property("CPU", openvino_runtime._NO_OLD_SHAPES)
    assert core.get_property("CPU", "NUM_STREAMS") == 1
    monkeypatch.setattr(openvino_runtime, "_NO_OLD_SHAPES", {"CPU_NO_SUCH_SETTING": 0})
    (answer,) = openvino_runtime.load(program, spec(), "cpu", 1).run([image_of(255)])
    assert answer["scores"].tolist() == [1]
