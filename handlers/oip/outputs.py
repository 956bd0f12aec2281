"""Chooses the outputs of the answer to a call, out of those that the model has.

A call that names none gets all that the model found but ``reply``, which would say it a second
time; with ``draw`` it gets ``reply`` alone, which is the picture then.
"""

from __future__ import annotations

from collections.abc import Sequence

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.replies.fields import MASK_TENSOR, REPLY, tensors_of
from d2serve.handlers.requests.options import NONE, RequestOptions
from d2serve.handlers.spec.model_spec import ModelSpec


def chosen_outputs(
    wanted: Sequence[str] | None, options: RequestOptions, spec: ModelSpec
) -> tuple[str, ...]:
    """Names of the outputs of an answer.

    Args:
        wanted: those that the call asks for; None where it names none.
        options: of the same request.

    Raises:
        InvalidOption: an output is asked for twice, or is none that this model has.
    """
    names = [each.name for each in tensors_of(spec)]
    if options.masks == NONE and MASK_TENSOR in names:
        names.remove(MASK_TENSOR)
    if options.extra == NONE:
        own = {each.output for each in spec.extras}
        names = [each for each in names if each not in own]
    if wanted is None:
        return (
            (REPLY.name,) if options.draw else tuple(each for each in names if each != REPLY.name)
        )
    for name in wanted:
        if name not in names or wanted.count(name) > 1:
            raise InvalidOption(
                f"Got {name[:40]!a} among the outputs{' twice' if name in names else ''}, expected "
                f"each once, out of {', '.join(names)}."
            )
    return tuple(wanted)
