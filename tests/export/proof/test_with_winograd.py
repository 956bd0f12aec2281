"""What an export finds with Winograd's convolutions is a record, and never a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2serve.export.errors import EagerError, VerificationError
from d2serve.export.proof import with_winograd as module
from d2serve.export.proof.comparing.winograd_record import WithWinograd
from d2serve.export.proof.reference import Remembering
from d2serve.handlers.spec.bounds import ONNX_BOUNDS


class Asked:
    """A reference that counts how often it is asked, and has no answer to black images."""

    reference, owner = "a reference", "nobody"

    def __init__(self) -> None:
        self.times = 0

    def answer(self, image: Any) -> Any:
        self.times += 1
        if not image.any():
            raise EagerError("black")
        return image.mean()

    def answer_batch(self, images: Any) -> Any:
        return [self.answer(image) for image in images]


def test_an_image_is_answered_once() -> None:
    asked = Asked()
    remembering: Any = Remembering(asked)  # answers numbers here, as what it asks
    grey, white, black = (np.full((2, 2, 3), value, np.uint8) for value in (9, 255, 0))
    for _ in range(2):
        assert remembering.answer(grey) == 9
        assert remembering.answer_batch([grey, white]) == [9, 255]
        assert remembering.answer_batch([grey]) == [9]
        with pytest.raises(EagerError, match="black"):
            remembering.answer(black)
    assert asked.times == 5
    assert (remembering.reference, remembering.owner) == ("a reference", "nobody")


def test_a_program_that_fails_with_them_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **given: Any) -> None:
        assert given["convolution"] == "winograd"
        raise VerificationError("it hangs")

    monkeypatch.setattr(module, "measured", fails)
    found = module.with_winograd(Path(), Asked(), [], ONNX_BOUNDS, lambda: None)
    assert found == WithWinograd(False, "it hangs")


@pytest.mark.parametrize(
    ("ways", "expected"),
    [((), "native code was not installed"), (("portable",), "no AVX2"), (("portable", "avx2"), "")],
)
def test_where_they_cannot_be_tried(
    ways: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ways", lambda: ways)
    assert expected in module.why_not_here()
    assert (expected == "") == (module.why_not_here() == "")
