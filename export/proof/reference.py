"""What a program's answers are compared with, as verifying knows it.

Most often it is eager detectron2 (``oracle.Oracle``). A program that was made elsewhere, years ago,
has what runs its own files (``caffe2_reference``), which needs no detectron2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from d2serve.export.errors import EagerError
from d2serve.export.reading.image_files import Pixels
from d2serve.handlers.outputs.records import Outputs


class Reference(Protocol):
    """Answers images; pixels are of the form that the model takes."""

    @property
    def reference(self) -> str:
        """What the answers are, for the record."""

    @property
    def owner(self) -> str:
        """Whose answers they are, in a sentence: ``"detectron2"``."""

    def answer(self, image: Pixels) -> Outputs:
        """The answer to one image.

        Raises:
            EagerError: there is none for this image.
        """

    def answer_batch(self, images: Sequence[Pixels]) -> list[Outputs]:
        """The answers to images that are given together."""


class Remembering:
    """A reference that is asked for each image once, however often it is compared with."""

    def __init__(self, asked: Reference) -> None:
        self._asked = asked
        self._answers: dict[tuple[int, ...], list[Outputs] | EagerError] = {}
        # An image that has gone would leave its identity to another one.
        self._images: list[Pixels] = []

    @property
    def reference(self) -> str:
        return self._asked.reference

    @property
    def owner(self) -> str:
        return self._asked.owner

    def answer(self, image: Pixels) -> Outputs:
        """See ``Reference.answer``."""
        return self._remembered((id(image),), [image], lambda: [self._asked.answer(image)])[0]

    def answer_batch(self, images: Sequence[Pixels]) -> list[Outputs]:
        """See ``Reference.answer_batch``."""
        key = (0, *map(id, images))  # a batch of one is asked for otherwise than an image
        return self._remembered(key, images, lambda: self._asked.answer_batch(images))

    def _remembered(
        self, key: tuple[int, ...], images: Sequence[Pixels], ask: Callable[[], list[Outputs]]
    ) -> list[Outputs]:
        if key not in self._answers:
            self._images += images
            try:
                self._answers[key] = ask()
            except EagerError as error:
                self._answers[key] = error
        found = self._answers[key]
        if isinstance(found, EagerError):
            raise found
        return found


def count_of(answer: Outputs) -> int:
    """How many things an answer holds: instances, proposals, otherwise labels in the image."""
    if answer.instances is not None:
        return len(answer.instances)
    if answer.proposals is not None:
        return len(answer.proposals.objectness_logits)
    if answer.sem_seg is None:
        return 0 if answer.panoptic_seg is None else len(answer.panoptic_seg.segments)
    return len(np.unique(answer.sem_seg))
