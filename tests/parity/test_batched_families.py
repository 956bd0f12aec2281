"""Programs that take batches answer mixed sizes as eager detectron2 answers the same batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from d2serve.export.archive.opening import opened
from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.isolated_replay import replay
from d2serve.export.proof.oracle import Oracle
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.spec.model_spec import read_spec
from d2serve.handlers.spec.runtimes import RUNTIMES
from tests.conftest import FAMILIES, MODELS, STUFF_MODELS, Exporter, HeldOut
from tests.parity.references import of_many_sizes
from tests.ways import IN_BATCHES, skipped, tiered

BATCHES = (1, 2, 5)


# The others of these families take the same ways through the program.
_OFTEN = (("mask_rcnn_fpn", "onnxruntime_batches"),)
_IN_BATCHES = (*MODELS, "cascade_mask_rcnn_fpn", "panoptic_fpn", "semantic_fpn", "rpn_fpn", "fcos")


def _in_batches() -> Iterator[Any]:
    for case in product(_IN_BATCHES, IN_BATCHES):
        marks = (*(() if case in _OFTEN else (pytest.mark.long,)), *skipped(case[1]))
        yield pytest.param(*case, marks=marks)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        *tiered((m, "scripting") for m, kinds in FAMILIES.items() if "scripting" in kinds),
        *_in_batches(),
    ],
)
def test_a_batch_of_mixed_sizes_is_answered_as_by_eager(
    model: str,
    kind: str,
    exported: Exporter,
    held_out: HeldOut,
    stuff_held_out: HeldOut,
    oracle_of: Callable[[str], Oracle],
) -> None:
    """The archive's own handler, in a process that cannot import detectron2."""
    split = stuff_held_out if model in STUFF_MODELS else held_out
    files = of_many_sizes(split.images, sum(BATCHES), sum(BATCHES))
    batches = [files[:1], files[1:3], files[3:8]]
    assert tuple(map(len, batches)) == BATCHES
    with opened(exported(model, kind)) as contents:
        spec = read_spec(contents)
        assert spec.dynamic_batch
        bounds = RUNTIMES[spec.runtime].bounds
        answers = replay(contents, batches, batching="always")
    for batch, answered in zip(batches, answers):
        expected = oracle_of(model).answer_batch([decode(file.read_bytes()) for file in batch])
        for file, reference, got in zip(batch, expected, answered):
            difference = compare(file.name, reference, got.to_outputs(), bounds)
            assert difference.misses == (), f"in a batch of {len(batch)}"
            assert kind in IN_BATCHES or difference.masks_differing == 0
            assert difference.detections > 0
