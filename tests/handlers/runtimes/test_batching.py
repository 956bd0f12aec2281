"""Which images of a batch share one call of the program."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.batching import MODES, BatchPlanner
from tests.handlers.samples import cases


@pytest.mark.parametrize(
    ("mode", "dynamic_batch", "on_gpu", "together"),
    [
        ("auto", True, True, True),
        ("auto", True, False, False),
        ("auto", False, True, False),
        ("auto", False, False, False),
        ("always", True, True, True),
        ("always", True, False, True),
        ("never", True, True, False),
        ("never", False, False, False),
    ],
)
def test_the_plan(mode: str, dynamic_batch: bool, on_gpu: bool, together: bool) -> None:
    plan = BatchPlanner(mode, dynamic_batch, on_gpu).plan(3)
    assert plan == ([[0, 1, 2]] if together else [[0], [1], [2]])


@pytest.mark.parametrize("on_gpu", [False, True])
def test_always_is_refused_for_a_program_that_takes_one_image(on_gpu: bool) -> None:
    with pytest.raises(LoadError, match=r"one image at a time.*--dynamic-batch"):
        BatchPlanner("always", False, on_gpu)


@pytest.mark.parametrize("mode", ["", "Always", "on", "None"])
def test_unknown_modes_are_refused_with_the_known_ones(mode: str) -> None:
    with pytest.raises(LoadError, match=f"'{mode}', expected one of auto, always, never"):
        BatchPlanner(mode, True, False)


@cases(100)
@given(st.sampled_from(MODES), st.booleans(), st.integers(0, 64))
def test_every_image_is_answered_once_and_in_order(mode: str, on_gpu: bool, count: int) -> None:
    groups = BatchPlanner(mode, True, on_gpu).plan(count)
    assert [index for group in groups for index in group] == list(range(count))
    assert all(groups)
