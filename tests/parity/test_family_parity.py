"""The promise, for the families that upstream's own tools do not export.

What TorchServe answers for a file is what DefaultPredictor answers for it, and the client gives it
back in DefaultPredictor's own structures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from d2serve.client.results.prediction import Prediction
from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.oracle import Oracle
from d2serve.export.proof.reference import count_of
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.spec.bounds import Bounds
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import FAMILIES, METHODS, STUFF_MODELS, HeldOut, said
from tests.parity.conftest import Served
from tests.parity.references import Reference, answers, bounds_of, of_many_sizes, reference_for
from tests.ways import tiered

IMAGES, SIZES = 10, 8
# Over gRPC and as run lengths the same model answers: what is compared is the way of the answer.
ALSO_OVER_GRPC = 3

CASES = [(model, kind) for model, kinds in FAMILIES.items() for kind in kinds]
LEAST = {"semantic_fpn": 2, "deeplab_v3plus": 2, "rpn_fpn": 100}
"""Things in an answer, on average: instances; else proposals, or labels."""

References = Callable[[str], list[Reference]]


@pytest.fixture(scope="module")
def references(
    held_out: HeldOut, stuff_held_out: HeldOut, oracle_of: Callable[[str], Oracle]
) -> References:
    """Eager detectron2's answers of a model, to images of its own kind."""
    made: dict[str, list[Reference]] = {}

    def make(model: str) -> list[Reference]:
        if model not in made:
            split = stuff_held_out if model in STUFF_MODELS else held_out
            files = of_many_sizes(split.images, IMAGES, SIZES)
            made[model] = [reference_for(oracle_of(model), file) for file in files]
        return made[model]

    return make


@pytest.mark.server
@pytest.mark.parametrize(("model", "kind"), tiered(CASES))
def test_http_and_grpc_answer_as_default_predictor(
    model: str, kind: str, server: TorchServeProcess, served: Served, references: References
) -> None:
    name = served(model, kind)
    bounds = bounds_of(kind)
    things = 0
    for index, (reference, answer) in enumerate(answers(server, name, references(model))):
        got = answer.to_outputs()
        difference = compare(reference.file.name, reference.outputs, got, bounds)
        assert difference.misses == ()
        if kind in METHODS:
            assert difference.masks_differing == 0
        things += difference.detections
        assert _fields(answer) == set(reference.predicted)
        _assert_detectron2s_structures(reference, answer, bounds)
        if index < ALSO_OVER_GRPC:
            assert said(server.grpc.predict(name, reference.file)) == said(answer)
            if answer.sem_seg is not None:
                _assert_run_lengths_are_the_same_labels(server, name, reference, answer)
    assert things >= LEAST.get(model, 2) * IMAGES  # agreement on nothing would show nothing


def _fields(answer: Prediction) -> set[str]:
    return set(said(answer)) - {"model", "version", "image"}


def _assert_detectron2s_structures(
    reference: Reference, answer: Prediction, bounds: Bounds
) -> None:
    """``to_detectron2()`` is DefaultPredictor's dict: its types and keys, its values in bounds."""
    expected = reference.predicted
    labels = len(expected["sem_seg"]) if "sem_seg" in expected else None
    got = answer.to_detectron2(sem_seg_classes=labels)
    assert got.keys() == expected.keys()
    for field in ("instances", "proposals"):
        if field in expected:
            _assert_same_fields(expected[field], got[field])
    if "sem_seg" in expected:
        assert got["sem_seg"].shape == expected["sem_seg"].shape
        assert got["sem_seg"].dtype == expected["sem_seg"].dtype
    if "panoptic_seg" in expected:
        _assert_same_segments(expected["panoptic_seg"], got["panoptic_seg"], bounds)
    height, width = answer.height, answer.width
    difference = compare(
        reference.file.name, reference.outputs, reference.read(got, height, width), bounds
    )
    assert difference.misses == ()


def _assert_same_fields(expected: Instances, got: Instances) -> None:
    assert got.image_size == expected.image_size
    assert len(got) == len(expected)
    assert set(got.get_fields()) == set(expected.get_fields())
    for name, value in expected.get_fields().items():
        other = got.get(name)
        assert type(other) is type(value), name
        one, another = (each.tensor if isinstance(each, Boxes) else each for each in (value, other))
        assert (another.shape, another.dtype) == (one.shape, one.dtype), name


def _assert_same_segments(
    expected: tuple[torch.Tensor, list[dict[str, Any]] | None],
    got: tuple[torch.Tensor, list[dict[str, Any]] | None],
    bounds: Bounds,
) -> None:
    (map_of, infos), (other_map, other_infos) = expected, got
    assert (other_map.shape, other_map.dtype) == (map_of.shape, map_of.dtype)
    if infos is None or other_infos is None:  # Panoptic-DeepLab says it all in its labels
        assert infos is other_infos
        return
    assert len(other_infos) == len(infos)
    for info, other in zip(infos, other_infos):
        assert other.keys() == info.keys()
        for key, value in info.items():
            if key == "score":
                assert other[key] == pytest.approx(value, abs=bounds.score)
            elif key == "area":
                assert other[key] == pytest.approx(
                    value, abs=2 + bounds.label_share * map_of.numel()
                )
            else:
                assert other[key] == value, key


def _assert_run_lengths_are_the_same_labels(
    server: TorchServeProcess, name: str, reference: Reference, answer: Prediction
) -> None:
    assert answer.sem_seg is not None
    labels = answer.sem_seg.label_map()
    for client in (server.http, server.grpc):
        other = client.predict(name, reference.file, sem_seg="rle")
        assert other.sem_seg is not None
        assert other.sem_seg.png is None
        assert all(each.segmentation is not None for each in other.sem_seg.classes)
        assert np.array_equal(other.sem_seg.label_map(), labels)
        assert {**said(other), "sem_seg": None} == {**said(answer), "sem_seg": None}


@pytest.mark.server  # with the comparison above, whose references these are
@pytest.mark.parametrize("model", FAMILIES)
def test_the_references_hold_what_is_to_be_compared(model: str, references: References) -> None:
    sizes = {(each.outputs.height, each.outputs.width) for each in references(model)}
    assert len(sizes) >= SIZES
    assert all(count_of(each.outputs) > 0 for each in references(model))
    if model.startswith("panoptic"):
        segments = [_segments_of(each.outputs) for each in references(model)]
        assert all(things >= 1 and stuff >= 1 for things, stuff in segments)


def _segments_of(outputs: Outputs) -> tuple[int, int]:
    assert outputs.panoptic_seg is not None
    things = sum(each.isthing for each in outputs.panoptic_seg.segments)
    return things, len(outputs.panoptic_seg.segments) - things
