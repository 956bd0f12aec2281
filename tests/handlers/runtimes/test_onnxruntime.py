"""An ONNX program answers by names, and one that cannot be served says what to do."""

from __future__ import annotations

import logging
import resource
import sys
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from d2serve.handlers.digests import sha256_of
from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.loading import KeepsMemory, load_runtime
from d2serve.handlers.runtimes.onnxruntime import OnnxRuntime
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.kernels.library import library, ways
from d2serve.kernels.onnxruntime.program import WinogradProgram
from tests.handlers.samples import spec_with

OUTPUTS = ("pred_boxes", "scores", "pred_classes")


def write_program(folder: Path, input_name: str = "image", **changes: object) -> ModelSpec:
    """A program whose scores are the image's mean, with outputs in another order than the spec."""
    image = helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [3, "height", "width"])
    outputs = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("pred_boxes", TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info("pred_classes", TensorProto.INT64, ["n"]),
    ]
    constants = [
        helper.make_tensor("boxes", TensorProto.FLOAT, [1, 4], [0, 1, 2, 3]),
        helper.make_tensor("classes", TensorProto.INT64, [1], [5]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
    ]
    nodes = [
        helper.make_node("ReduceMean", [input_name], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "one"], ["scores"]),
        helper.make_node("Identity", ["boxes"], ["pred_boxes"]),
        helper.make_node("Identity", ["classes"], ["pred_classes"]),
    ]
    graph = helper.make_graph(nodes, "program", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "model.onnx"))
    return spec_of(folder, **changes)


def spec_of(folder: Path, **changes: object) -> ModelSpec:
    fields = {
        "runtime": "onnxruntime",
        "method": "tracing",
        "dynamic_batch": False,
        "program": "model.onnx",
        "sha256": {"model.onnx": sha256_of(folder / "model.onnx")},
        "outputs": OUTPUTS,
        **changes,
    }
    return spec_with(**fields)


def test_outputs_go_by_name_whatever_the_size(tmp_path: Path) -> None:
    loaded = load_runtime(tmp_path, write_program(tmp_path), "cpu")
    assert not loaded.on_gpu
    images = [np.full((3, 7, 9), 3, np.float32), np.full((3, 20, 4), 8, np.float32)]
    first, second = loaded.run(images)
    assert list(first) == list(OUTPUTS)
    assert first["pred_boxes"].tolist() == [[0, 1, 2, 3]]
    assert (first["scores"].tolist(), second["scores"].tolist()) == ([3], [8])


def threads_of(session: onnxruntime.InferenceSession) -> int:
    threads: int = session.get_session_options().intra_op_num_threads
    return threads


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sessions were alive each time that another was there."""
    sessions: weakref.WeakSet[onnxruntime.InferenceSession] = weakref.WeakSet()
    counts: list[int] = []
    make = onnxruntime.InferenceSession

    def counted(*arguments: object, **options: object) -> onnxruntime.InferenceSession:
        made = make(*arguments, **options)
        sessions.add(made)
        counts.append(len(sessions))
        return made

    monkeypatch.setattr(onnxruntime, "InferenceSession", counted)
    return counts


def test_two_sessions_are_never_alive_at_once(tmp_path: Path, alive: list[int]) -> None:
    """Not even while other threads call it: each session holds the model's weights."""
    loaded = load_runtime(tmp_path, write_program(tmp_path), "cpu", threads=1)
    image = np.full((3, 70, 90), 3, np.float32)
    done = threading.Event()

    def ask() -> set[float]:
        scores: set[float] = set()
        while not done.is_set():
            (answer,) = loaded.run([image])
            scores.update(answer["scores"].tolist())
        return scores

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        for threads in (2, 1, 3, 2, 1) * 4:
            loaded.set_threads(threads)
            loaded.run([image])
        done.set()
        assert [each.result() for each in asking] == [{3.0}] * 3
    assert len(alive) >= 21
    assert set(alive) == {1}


def test_threads_that_cannot_be_had_leave_the_session_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load_runtime(tmp_path, write_program(tmp_path), "cpu", threads=1)
    assert isinstance(loaded, OnnxRuntime)
    image = np.full((3, 7, 9), 3, np.float32)
    make, made = onnxruntime.InferenceSession, []

    def failing(program: str, options: onnxruntime.SessionOptions, **more: object) -> object:
        made.append(options.intra_op_num_threads)
        if options.intra_op_num_threads == 7:
            raise MemoryError("no room for 7 threads")
        return make(program, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", failing)
    for _ in range(3):  # a worker asks for its share every few seconds
        loaded.set_threads(7)
        (answer,) = loaded.run([image])
        assert answer["scores"].tolist() == [3]
    assert made == [7, 1], "what failed is not tried again"
    assert loaded._sessions.call(threads_of) == 1
    assert "cannot be loaded for 7 threads; it stays at 1" in caplog.text
    assert "no room for 7 threads" in caplog.text
    loaded.set_threads(2)
    loaded.run([image])
    assert loaded._sessions.call(threads_of) == 2


@pytest.mark.parametrize(
    ("version", "kernels", "kind"),
    [
        (onnxruntime.__version__, True, bytes),
        ("1.20.1", True, str),  # it finds no tensors beside a program that it has in memory
        (onnxruntime.__version__, False, str),
    ],
)
def test_large_tensors_are_mapped_where_that_can_be_had(
    version: str, kernels: bool, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path)
    program = onnx.load(tmp_path / "model.onnx")
    program.graph.initializer.append(numpy_helper.from_array(np.full(5000, 2, np.float32), "large"))
    program.graph.node[0].output[0] = "image mean"
    for node in (
        helper.make_node("Mul", ["image mean", "large mean"], ["mean"]),
        helper.make_node("ReduceMean", ["large"], ["large mean"], keepdims=0),
    ):
        program.graph.node.insert(1, node)
    onnx.save(program, tmp_path / "model.onnx")
    make, given = onnxruntime.InferenceSession, []

    def noted(program: object, *arguments: object, **options: object) -> object:
        given.append(type(program))
        return make(program, *arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", noted)
    monkeypatch.setattr(onnxruntime, "__version__", version)
    if not kernels:  # as where only the archive's own handlers are
        monkeypatch.setitem(sys.modules, "d2serve.kernels.onnxruntime.program", None)
    (answer,) = load_runtime(tmp_path, spec_of(tmp_path), "cpu").run(
        [np.full((3, 7, 9), 3, np.float32)]
    )
    assert answer["scores"].tolist() == [6]
    assert given == [kind]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_feature_maps_keep_their_memory_until_it_is_given_up(tmp_path: Path) -> None:
    write_program(tmp_path)
    program = onnx.load(tmp_path / "model.onnx")
    program.graph.node[0].input[0] = "doubled"
    program.graph.node.insert(0, helper.make_node("Concat", ["image"] * 4, ["doubled"], axis=0))
    onnx.save(program, tmp_path / "model.onnx")
    loaded = load_runtime(tmp_path, spec_of(tmp_path), "cpu", threads=1)
    assert isinstance(loaded, KeepsMemory)
    image = np.full((3, 1000, 1000), 3, np.float32)
    map_size = 4 * image.nbytes
    answers, fetched = [], []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        (answer,) = loaded.run([image])
        answers += answer["scores"].tolist()
        fetched.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert fetched[0] > map_size / resource.getpagesize() / 2
    assert fetched[2] < fetched[0] / 10
    held = resident()
    loaded.release_memory()
    assert held - resident() > map_size * 0.9
    (answer,) = loaded.run([image])
    assert [*answers, *answer["scores"].tolist()] == [3.0] * 4


def test_it_answers_the_same_with_other_threads(tmp_path: Path) -> None:
    loaded = load_runtime(tmp_path, write_program(tmp_path), "cpu", threads=1)
    assert isinstance(loaded, OnnxRuntime)
    image = np.full((3, 7, 9), 3, np.float32)
    for threads, expected in ((1, 1), (2, 2), (2, 2)):
        loaded.set_threads(threads)
        (answer,) = loaded.run([image])
        assert answer["scores"].tolist() == [3]
        assert loaded._sessions.call(threads_of) == expected


@pytest.mark.parametrize(
    ("input_name", "outputs", "named"),
    [
        ("pixels", OUTPUTS, r"inputs \['pixels'\].*expected the inputs \['image'\]"),
        ("image", (*OUTPUTS, "pred_masks"), "does not match its spec.*pred_masks.*Export"),
    ],
)
def test_a_program_that_does_not_match_its_spec(
    input_name: str, outputs: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    spec = write_program(tmp_path, input_name, outputs=outputs)
    with pytest.raises(LoadError, match=named):
        load_runtime(tmp_path, spec, "cpu")


@pytest.mark.parametrize("content", [b"", b"not a program", b"\x08\x07" + bytes(99)])
def test_a_file_that_is_no_program(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(LoadError, match=r"cannot load model.onnx .*d2serve inspect.*export again"):
        load_runtime(tmp_path, spec_of(tmp_path), "cpu")


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="it is a GPU build"
)
def test_no_gpu_build(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"run on cuda:1.*pip install onnxruntime-gpu"):
        load_runtime(tmp_path, write_program(tmp_path), "cuda:1")


GOOD = {"winograd": {"within_bounds": True}}
installed = pytest.mark.skipif(library() is None, reason="no native kernels are installed")
fast = pytest.mark.skipif(len(ways()) < 2, reason="this CPU has none of the fast ways")


def write_convolutions(folder: Path, verification: Mapping[str, object]) -> ModelSpec:
    """Two convolutions; only the second one gains."""
    random = np.random.default_rng(0)
    weights = {
        name: random.standard_normal((16, ins, 3, 3)).astype(np.float32) / 10
        for name, ins in (("first", 3), ("second", 16))
    }
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [3, "height", "width"])
    end = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(each, name) for name, each in weights.items()]
    constants.append(helper.make_tensor("zero", TensorProto.INT64, [1], [0]))
    nodes = [
        helper.make_node("Unsqueeze", ["image", "zero"], ["x"]),
        helper.make_node("Conv", ["x", "first"], ["y"], pads=[1] * 4),
        helper.make_node("Conv", ["y", "second"], ["z"], pads=[1] * 4),
        helper.make_node("Relu", ["z"], ["scores"]),
    ]
    graph = helper.make_graph(nodes, "program", [image], [end], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    return spec_of(folder, outputs=("scores",), verification=verification)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "Winograd" in message]


@installed
@fast
@pytest.mark.parametrize("version", [onnxruntime.__version__, "1.20.1"])
@pytest.mark.parametrize(("choice", "count"), [("auto", 1), ("winograd", 2), ("direct", 0)])
def test_convolutions_are_those_that_were_chosen(
    choice: str,
    count: int,
    version: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where tensors cannot be mapped, as for servers with Python 3.9."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(onnxruntime, "__version__", version)
    spec = write_convolutions(tmp_path, GOOD)
    loaded = load_runtime(tmp_path, spec, "cpu", 1, choice)
    direct = load_runtime(tmp_path, spec, "cpu", 1, "direct")
    expected = f"shapes runs with Winograd's algorithm in {count} of its 2 3x3 convolutions."
    assert said(caplog) == ([expected] if count else [])
    image = np.random.default_rng(1).random((3, 30, 44), np.float32)
    for threads in (1, 2):
        loaded.set_threads(threads)
        (got,), (plain,) = loaded.run([image]), direct.run([image])
        scores, plainly = (each["scores"].astype(np.float64) for each in (got, plain))
        np.testing.assert_allclose(scores, plainly, rtol=0, atol=1e-5)
        assert np.array_equal(scores, plainly) == (count == 0)


@installed
def test_an_onnxruntime_that_takes_no_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By itself it then runs its own convolutions; asked for by name, the others are refused."""
    spec = write_convolutions(tmp_path, GOOD)

    def refuse(_self: object, _options: object, _threads: int) -> bytes:
        raise RuntimeError("no such API")

    monkeypatch.setattr(WinogradProgram, "edited", refuse)
    loaded = load_runtime(tmp_path, spec, "cpu", 1)
    assert loaded.run([np.ones((3, 5, 5), np.float32)])[0]["scores"].shape == (1, 16, 5, 5)
    (line,) = said(caplog)
    assert line.startswith("shapes runs without Winograd's convolutions, which onnxruntime")
    with pytest.raises(LoadError, match="no such API"):
        load_runtime(tmp_path, spec, "cpu", 1, "winograd")
