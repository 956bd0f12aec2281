"""Several threads may ask one detector at once: each gets the bits that it gets alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from d2serve.handlers.detector import Detector
from d2serve.handlers.digests import sha256_of
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.spec.model_spec import SPEC_FILE
from tests.handlers.programs import write_archive
from tests.handlers.runtimes import test_onnxruntime, test_openvino
from tests.handlers.samples import bits, spec_with

THREADS, ROUNDS = 6, 12
# Of other sizes, and large enough that calls overlap.
IMAGES = [
    np.random.default_rng(seed).integers(0, 256, (300 + 40 * seed, 420 - 30 * seed, 3), np.uint8)
    for seed in range(THREADS)
]


def _torchscript(folder: Path) -> None:
    write_archive(folder, "tracing")


def _onnx(folder: Path) -> None:
    spec = test_onnxruntime.write_program(folder)
    (folder / SPEC_FILE).write_text(spec.to_json())


def _openvino(folder: Path) -> None:
    ov.save_model(test_openvino.model(), folder / "p.xml", compress_to_fp16=False)
    hashes = {file.name: sha256_of(file) for file in sorted(folder.iterdir())}
    spec = spec_with(
        runtime="openvino", method="tracing", dynamic_batch=False, program="p.xml", sha256=hashes
    )
    (folder / SPEC_FILE).write_text(spec.to_json())


def told(answers: Sequence[Outputs]) -> list[Any]:
    found = [answer.instances for answer in answers]
    return [(bits(each.boxes), bits(each.scores)) for each in found if each is not None]


@pytest.mark.parametrize("write", [_torchscript, _onnx, _openvino])
@pytest.mark.parametrize("changing", [False, True], ids=["alone", "while threads change"])
def test_they_get_the_same_bits_as_alone(
    write: Callable[[Path], None], changing: bool, tmp_path: Path
) -> None:
    write(tmp_path)
    detector = Detector.open(tmp_path)
    alone = []
    for threads in (2, 1) if changing else (1,):  # sums of two threads are split otherwise
        detector.set_threads(threads)
        alone.append([told(detector([image])) for image in IMAGES])
    start = Barrier(THREADS)

    def ask(image: NDArray[np.uint8]) -> list[Any]:
        start.wait()
        answers = []
        for number in range(ROUNDS):
            answers.append(told(detector([image])))
            if changing and image is IMAGES[0] and number % 4 == 0:
                detector.set_threads(1 + number % 8 // 4)
        return answers

    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(ask, IMAGES))
    for expected, got in zip(zip(*alone), together):
        assert len(got) == ROUNDS
        for each in got:
            assert each in expected
