"""Which masks and keypoints a request needs, and where they are among those that a program made."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from d2serve.handlers.errors import ModelFailed
from d2serve.handlers.outputs.selection import Selection
from d2serve.handlers.runtimes.details import ALL, Details
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.output_names import HEATMAPS, KEYPOINTS, MASKS, SCORES

Indices = npt.NDArray[np.intp]


class DetailsMissing(Exception):  # no error: the program is asked again
    """An instance is left that the program made no mask or keypoints of."""


def details_of(selection: Selection, spec: ModelSpec) -> Details | None:
    """What a request needs, of a program that can be asked; None of any other.

    An instance whose box is empty counts among the best here and not in the answer, since boxes are
    clipped to the image as it was sent only afterwards. That is rare, and ``rows_among`` tells.
    """
    if spec.detail_classes is None:
        return None
    scores = Details.of_all(spec.detail_classes).scores
    if selection.score_thresh is not None:
        scores[:] = selection.score_thresh
    if selection.classes is not None:
        others = np.ones(len(scores), np.bool_)
        others[list(selection.classes)] = False
        scores[others] = np.inf
    most = ALL if selection.most is None else selection.most
    if not selection.masks and not {KEYPOINTS, HEATMAPS} & {*spec.outputs}:
        most = 0
    return Details(scores, most)


def rows_among(raw: RawOutputs, details: Details | None, kept: Indices) -> Indices:
    """Where the masks and keypoints of instances are in what a program answered.

    Args:
        raw: the program's outputs.
        details: what it was asked for; None is all.
        kept: indices of the instances.

    Raises:
        DetailsMissing: it was not asked for those of one of them.
        ModelFailed: it gave more or fewer than it was asked for.
    """
    if details is None:
        return kept
    made = details.rows(raw)
    for name in (MASKS, KEYPOINTS, HEATMAPS):
        if name in raw and len(raw[name]) != len(made):
            raise ModelFailed(
                f"The model answered {len(raw[name])} rows of {name}, expected {len(made)}, those "
                "that were asked for. Check the archive with `d2serve verify` on this image."
            )
    place_of = np.full(len(raw[SCORES]), -1, np.intp)
    place_of[made] = np.arange(len(made))
    places = place_of[kept]
    if (places < 0).any():
        raise DetailsMissing
    return places
