"""A real program that several threads ask at once gives each the bits that it gives alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from d2serve.handlers.detector import Detector
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.requests.decoding import decode
from tests.conftest import KINDS, Exporter, HeldOut
from tests.handlers.samples import bits
from tests.ways import installed

THREADS, ROUNDS = 3, 2


def told(answers: list[Outputs]) -> object:
    (found,) = (answer.instances for answer in answers)
    assert found is not None
    return bits(found.boxes), bits(found.scores), found.classes.tolist(), found.masks


@pytest.mark.parametrize("kind", installed(KINDS))
def test_each_gets_its_own_answer(kind: str, exported: Exporter, held_out: HeldOut) -> None:
    images = [decode(file.read_bytes()) for file in held_out.images[:THREADS]]
    with Detector.open(exported("mask_rcnn_fpn", kind), threads=1) as detector:
        alone = [told(detector([image])) for image in images]
        with ThreadPoolExecutor(THREADS) as pool:
            together = list(pool.map(lambda image: told(detector([image])), images * ROUNDS))
    assert together == alone * ROUNDS
    assert len({str(each) for each in alone}) == THREADS
