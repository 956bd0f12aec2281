"""A TensorFlow program answers by names, and one that cannot be served says what to do.

Of d2serve.handlers.runtimes.tensorflow, which is imported by what loads such a program.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2serve.handlers.digests import sha256_of
from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.loading import load_runtime
from d2serve.handlers.spec.model_spec import SPEC_FILE, ModelSpec
from tests.handlers.samples import spec_with

tf = pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed")
freezing = pytest.importorskip("tensorflow.python.framework.convert_to_constants")

OUTPUTS = ("pred_boxes", "scores", "pred_classes")
FROZEN, SAVED = "frozen_graph.pb", "saved_model.pb"
FORMS = pytest.mark.parametrize("main", [SAVED, FROZEN])


def answer(image: Any, half: Any) -> dict[str, Any]:
    """(0, 0, width, height) / 2 as box, the mean as score, its class 5; nothing of a dark image."""
    size = tf.cast(tf.shape(image), tf.float32)
    count = tf.cond(tf.reduce_mean(image) > 1, lambda: 1, lambda: 0)
    box = tf.stack([tf.zeros([]), tf.zeros([]), size[2], size[1]]) * half
    answers = {
        "pred_boxes": tf.repeat(box[None], count, 0),
        "scores": tf.repeat(tf.reduce_mean(image)[None], count),
        "pred_classes": tf.repeat(tf.constant([5], tf.int64), count),
    }
    return {name: tf.identity(value, name=name) for name, value in answers.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SavedModel and the frozen graph of the same program."""
    folder = tmp_path_factory.mktemp("tensorflow")
    module = tf.Module()
    module.half = tf.Variable(tf.fill([4], 0.5))
    given = tf.TensorSpec([3, None, None], tf.float32, "image")
    traced = tf.function(lambda image: answer(image, module.half), input_signature=[given])
    function = traced.get_concrete_function()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": function})
    frozen = freezing.convert_variables_to_constants_v2(function).graph.as_graph_def()
    (folder / FROZEN).write_bytes(frozen.SerializeToString())
    return folder


@pytest.fixture
def program(made: Path, tmp_path: Path) -> Path:
    """The same in a folder of the test's own."""
    for file in sorted(made.rglob("*")):
        target = tmp_path / file.relative_to(made)
        target.mkdir() if file.is_dir() else target.write_bytes(file.read_bytes())
    return tmp_path


def spec_of(folder: Path, main: str = SAVED, **changes: object) -> ModelSpec:
    files = [main] if main == FROZEN else [
        file.relative_to(folder).as_posix()
        for file in (folder / SAVED, *(folder / "variables").iterdir())
    ]  # fmt: skip
    fields = {
        "runtime": "tensorflow",
        "method": "tracing",
        "dynamic_batch": False,
        "program": main,
        "sha256": {name: sha256_of(folder / name) for name in files},
        "outputs": OUTPUTS,
        **changes,
    }
    return spec_with(**fields)


def image_of(value: float, height: int = 10, width: int = 20) -> np.ndarray[Any, Any]:
    return np.full((3, height, width), value, np.float32)


@FORMS
def test_it_answers_each_image_by_name_though_sizes_differ(program: Path, main: str) -> None:
    loaded = load_runtime(program, spec_of(program, main), "cpu")
    assert not loaded.on_gpu
    first, none, second = loaded.run([image_of(3), image_of(0), image_of(8, 30, 40)])
    assert list(first) == list(OUTPUTS)
    assert first["pred_boxes"].tolist() == [[0, 0, 10, 5]]
    assert second["pred_boxes"].tolist() == [[0, 0, 20, 15]]
    assert (first["scores"].tolist(), second["scores"].tolist()) == ([3], [8])
    assert first["pred_classes"].tolist() == [5]
    assert first["pred_classes"].dtype == np.int64
    assert {name: value.shape for name, value in none.items()} == {
        "pred_boxes": (0, 4),
        "scores": (0,),
        "pred_classes": (0,),
    }


def test_images_need_not_be_contiguous(program: Path) -> None:
    loaded = load_runtime(program, spec_of(program), "cpu")
    (answer,) = loaded.run([image_of(3)[:, :, ::2]])
    assert answer["pred_boxes"].tolist() == [[0, 0, 5, 5]]


@FORMS
def test_threads_change_while_others_ask(program: Path, main: str) -> None:
    loaded = load_runtime(program, spec_of(program, main), "cpu", threads=1)
    done = threading.Event()

    def ask(value: float) -> set[float]:
        scores: set[float] = set()
        while not done.is_set():
            (answer,) = loaded.run([image_of(value)])
            scores.update(answer["scores"].tolist())
        return scores

    with ThreadPoolExecutor(3) as pool:
        asking = {value: pool.submit(ask, value) for value in (2.0, 3.0, 4.0)}
        for threads in (2, 1, 3):
            loaded.set_threads(threads)
            loaded.run([image_of(5)])
        done.set()
        assert {value: each.result() for value, each in asking.items()} == {
            value: {value} for value in asking
        }


ALONE = """
import os, sys
from pathlib import Path
from d2serve.handlers.runtimes.loading import load_runtime
from d2serve.handlers.spec.model_spec import read_spec
import numpy
def threads():
    return len(os.listdir("/proc/self/task"))
folder, counts = Path.cwd(), []
runtime = load_runtime(folder, read_spec(folder), "cpu", 1)
for wanted in (1, 4, 1):
    runtime.set_threads(wanted)
    (answer,) = runtime.run([numpy.full((3, 9, 9), 3, numpy.float32)])
    assert answer["scores"].tolist() == [3]
    counts.append(threads())
print([count - counts[0] for count in counts])
print(sorted({"torch", "keras", "tensorflow"} & set(sys.modules)))
import tensorflow  # who wants all of it gets it all the same
print(int(tensorflow.add(1, 2)), hasattr(tensorflow, "keras"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_worker_has_its_threads_and_no_more_of_tensorflow_than_it_needs(program: Path) -> None:
    (program / SPEC_FILE).write_text(spec_of(program).to_json())
    told = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=program,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == ["[0, 3, 0]", "[]", "3 True"]


@FORMS
def test_a_program_that_does_not_match_its_spec(program: Path, main: str) -> None:
    lacking = spec_of(program, main, outputs=(*OUTPUTS, "pred_masks"))
    with pytest.raises(LoadError, match=f"{main} does not match its spec.*pred_masks.*Export"):
        load_runtime(program, lacking, "cpu")
    other = spec_of(program, main, postprocessed=True)
    with pytest.raises(LoadError, match=r"inputs \['image'\].*expected the inputs .*'height'"):
        load_runtime(program, other, "cpu")


def test_a_saved_model_without_a_signature(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(LoadError, match=r"saved_model.pb does not match its spec.*inputs \[\] and"):
        load_runtime(tmp_path, spec_of(tmp_path), "cpu")


@FORMS
@pytest.mark.parametrize("content", [b"", b"not a program", b"\x08\x07" + bytes(99)])
def test_a_file_that_is_no_program(program: Path, main: str, content: bytes) -> None:
    (program / main).write_bytes(content)
    if content or main == SAVED:
        told = f"TensorFlow {tf.__version__} cannot load {main}, .*TensorFlow 9.8.7.*export again"
    else:  # no file at all is a graph without nodes
        told = f"{main} does not match its spec: it has the inputs \\[\\]"
    with pytest.raises(LoadError, match=told):
        load_runtime(program, spec_of(program, main, versions={"tensorflow": "9.8.7"}), "cpu")


@pytest.mark.parametrize("change", ["cut", "gone", "other bytes"])
def test_weights_that_were_damaged(program: Path, change: str) -> None:
    spec = spec_of(program)
    (weights,) = (program / "variables").glob("*.data*")
    content = weights.read_bytes()
    if change == "gone":
        weights.unlink()
    else:
        weights.write_bytes(content[:-1] if change == "cut" else content[:-1] + b"?")
    said = "is missing" if change == "gone" else "has sha256"
    with pytest.raises(LoadError, match=f"variables/variables.data-00000-of-00001 {said}"):
        load_runtime(program, spec, "cpu")


def test_no_gpu(program: Path) -> None:
    with pytest.raises(LoadError, match="run on cuda:0, but TensorFlow programs run on the CPU"):
        load_runtime(program, spec_of(program), "cuda:0")
