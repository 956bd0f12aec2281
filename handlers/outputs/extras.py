"""Takes what a model answers beyond detectron2's own fields out of a program's outputs.

It stays as the program answers it: detectron2's postprocessing scales and pastes its own fields
only, and leaves out every field of an instance with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from d2serve.handlers.errors import ModelFailed
from d2serve.handlers.outputs.records import Extras
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from d2serve.handlers.spec.extras import IMAGE, INSTANCE, Extra
from d2serve.handlers.spec.model_spec import ModelSpec


def instance_extras(
    raw: RawOutputs, extras: Sequence[Extra], count: int, kept: npt.NDArray[np.intp]
) -> Extras:
    """The fields of the model's own of the instances that are kept, each (N, ...).

    Args:
        raw: the program's outputs.
        extras: the spec's.
        count: instances in the program's answer.
        kept: indices of those that the reply has, in its order.

    Raises:
        ModelFailed: one has not the shape that the spec says.
    """
    found = {}
    for extra in extras:
        if extra.per == INSTANCE:
            values = raw[extra.output]
            if values.ndim == 0 or len(values) != count or not extra.fits(values.shape[1:]):
                raise _shape_error(extra, values.shape, f"{count} instances")
            found[extra.name] = values[kept].astype(extra.dtype, copy=False)
    return found


def image_extras(raw: RawOutputs, spec: ModelSpec) -> Extras:
    """The keys of the model's own.

    Raises:
        ModelFailed: one has not the shape that the spec says.
    """
    found = {}
    for extra in spec.extras:
        if extra.per == IMAGE:
            values = raw[extra.output]
            if not extra.fits(values.shape):
                raise _shape_error(extra, values.shape, "the image")
            found[extra.name] = values.astype(extra.dtype, copy=False)
    return found


def _shape_error(extra: Extra, shape: tuple[int, ...], of: str) -> ModelFailed:
    sides = ["any" if side is None else side for side in extra.shape]
    return ModelFailed(
        f"The model answered {extra.name} of the shape {list(shape)} for {of}, expected {sides} "
        f"for each {extra.per}. Check the archive with `d2serve verify` on this image."
    )
