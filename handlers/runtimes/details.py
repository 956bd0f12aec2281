"""Of which instances a program makes details, masks and the like, where it can be asked for some.

Their heads are a quarter of a full-size Mask R-CNN's work, and a request may leave few instances of
those that are found, or want no masks. The rule is one of the program's own numbers alone, so that
the handler knows which rows it got: a score above what its class needs, and of those the first so
many, in the program's order, which is by falling score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2serve.handlers.runtimes.raw_outputs import Float32, RawOutputs, Size
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.output_names import CLASSES, SCORES

ALL = 2**31 - 1
"""Of instances: more than any program finds."""


@dataclass(frozen=True)
class Details:
    """What a program is asked for beside boxes, scores and classes."""

    scores: Float32
    """(classes,) what the score of an instance has to exceed; infinity leaves its class out."""
    most: int

    @staticmethod
    def of_all(classes: int) -> Details:
        """Those of every instance."""
        return Details(np.full(classes, -np.inf, np.float32), ALL)

    @property
    def inputs(self) -> tuple[npt.NDArray[np.generic], ...]:
        """As a program takes them, in the order of DETAIL_INPUTS."""
        return self.scores, np.array(self.most, np.int64)

    def rows(self, raw: RawOutputs) -> npt.NDArray[np.intp]:
        """Indices, into what a program answered, of the instances it was to make details of."""
        scores = raw[SCORES].astype(np.float32)
        exceeding = scores > self.scores[raw[CLASSES].astype(np.int64)]
        return np.flatnonzero(exceeding)[: self.most]


def inputs_of(
    spec: ModelSpec, images: Sequence[Float32], sizes: Sequence[Size], details: Sequence[Details]
) -> list[tuple[npt.NDArray[np.generic], ...]]:
    """What a program takes of each image, in the order of ``spec.inputs``.

    Args:
        spec: the program's.
        images, sizes, details: as ``Runtime.run`` takes them.
    """
    given: list[tuple[npt.NDArray[np.generic], ...]] = [(image,) for image in images]
    if spec.postprocessed:
        own = sizes or [(image.shape[1], image.shape[2]) for image in images]
        given = [(*g, *(np.array(side, np.int64) for side in size)) for g, size in zip(given, own)]
    if spec.detail_classes is not None:
        asked = details or [Details.of_all(spec.detail_classes)] * len(images)
        given = [(*g, *d.inputs) for g, d in zip(given, asked)]
    return given
