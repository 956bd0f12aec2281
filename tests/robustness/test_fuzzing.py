"""2,000 mutated requests: each has an answer or a 4xx, at once, and memory is given back."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.handlers.samples import cases
from tests.robustness import mutations
from tests.robustness.fuzzing import MOST_MEGABYTES, Figures, fuzz, handler, resident_megabytes

pytestmark = pytest.mark.filterwarnings("ignore")


def test_mutated_requests() -> None:
    fuzz(100)
    before = resident_megabytes()
    figures = fuzz(1500)
    assert figures.failures == []
    assert resident_megabytes() - before < MOST_MEGABYTES
    # Not all of them are refused for the same reason.
    assert figures.codes["ok"] > 100
    assert figures.codes.keys() >= {"invalid_image", "unsupported_image_format", "invalid_option"}


@cases(500)
@given(st.randoms(use_true_random=False))
def test_whatever_hypothesis_mutates(random: Random) -> None:
    figures = Figures()
    figures.of(HANDLER, mutations.request(random), "this")
    assert figures.failures == []


HANDLER = handler()


def test_the_whole_files_of_the_corpus_are_answered() -> None:
    figures = Figures()
    for number, data in enumerate(mutations.corpus()):
        figures.of(HANDLER, ({"body": data}, {"Host": "x"}), f"file {number}")
    assert figures.failures == []
    assert sum(figures.codes.values()) - figures.codes["ok"] == 6  # floats, and no images
