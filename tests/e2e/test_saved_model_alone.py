"""The SavedModel of an archive answers the same where nothing of d2serve is: by ``tf.saved_model``,
and by TensorFlow's C library, whose loader TensorFlow Serving calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.preprocessing import preprocess
from d2serve.handlers.runtimes.loading import load_runtime
from d2serve.handlers.spec.model_spec import read_spec
from d2serve.handlers.spec.runtimes import TENSORFLOW
from d2serve.server.archives.extracting import extract
from tests.conftest import Exporter, HeldOut
from tests.ways import installed

IN_PYTHON = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy
import tensorflow
folder, array, answers = sys.argv[1:]
answer = tensorflow.saved_model.load(folder).signatures["serving_default"]
found = answer(image=tensorflow.constant(numpy.load(array)))
numpy.savez(answers, **{name: each.numpy() for name, each in found.items()})
assert not {name for name in sys.modules if name.split(".")[0] in ("d2serve", "detectron2")}
"""
TENSORS = """
import sys
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
with open(sys.argv[1] + "/saved_model.pb", "rb") as file:
    (meta,) = SavedModel.FromString(file.read()).meta_graphs
signature = meta.signature_def["serving_default"]
print(signature.inputs["image"].name, *(f"{n}={t.name}" for n, t in signature.outputs.items()))
"""


def run(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", installed([TENSORFLOW]))
def test_it_answers_as_the_archive(
    kind: str, exported: Exporter, held_out: HeldOut, tmp_path: Path
) -> None:
    folder = extract(exported("mask_rcnn_fpn", kind), tmp_path / "models")
    assert folder == tmp_path / "models" / f"mask_rcnn_fpn_{kind}" / "1"
    spec = read_spec(folder)
    runtime = load_runtime(folder, spec, "cpu")
    given, *outputs = run("-c", TENSORS, folder).split()
    image = preprocess(decode(held_out.images[0].read_bytes()), spec).tensor
    dark = np.zeros_like(image)
    for number, (tensor, least) in enumerate(((image, 3), (dark, 0))):
        array, by_python, by_c = (
            tmp_path / f"{number}{name}" for name in (".npy", "python.npz", "c.npz")
        )
        np.save(array, tensor)
        (expected,) = runtime.run([tensor])
        assert len(expected["scores"]) >= least
        run("-c", IN_PYTHON, folder, array, by_python)
        script = Path(__file__).with_name("saved_model_in_c.py")
        assert run(script, folder, array, given, by_c, *outputs) == "answered\n"
        for answers in (np.load(by_python), np.load(by_c)):
            assert set(answers.files) == set(spec.outputs)
            for name in spec.outputs:
                assert_equal(answers[name], expected[name])


def assert_equal(got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    """But for the last digits, which follow from how many threads there are."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert np.allclose(got, expected, rtol=1e-5, atol=1e-4)
