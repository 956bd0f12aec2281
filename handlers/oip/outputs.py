"""Chooses the outputs of the answer to a call, out of those that the model has, and their form.

A call that names none gets all that the model found but ``reply``, which would say it a second
time; with ``draw`` it gets ``reply`` alone, which is the picture then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.replies.fields import MASK_TENSOR, REPLY, tensors_of
from d2serve.handlers.requests.options import NONE, RequestOptions
from d2serve.handlers.requests.request import Call
from d2serve.handlers.spec.model_spec import ModelSpec

BINARY_OUTPUT, ALL_BINARY = "binary_data", "binary_data_output"
"""Parameters of an output, and of a call: whether the answer has it in binary, or all outputs."""


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


def binary_outputs(call: Call, names: Sequence[str]) -> frozenset[str]:
    """Those outputs of an answer that are wanted in binary, behind its JSON.

    Over HTTP alone: a server of gRPC takes JSON, and what it makes of that is for it to say.

    Args:
        call: it has been read, so that its outputs are known to be objects with names.
        names: of the outputs of the answer.
    """
    if call.grpc:
        return frozenset()
    wanted = (call.body.get("parameters") or {}).get(ALL_BINARY) is True
    own = {
        each["name"]: each["parameters"][BINARY_OUTPUT]
        for each in _objects(call.body.get("outputs"))
        if BINARY_OUTPUT in (each.get("parameters") or {})
    }
    return frozenset(name for name in names if own.get(name, wanted) is True)


def _objects(outputs: Any) -> Sequence[Mapping[str, Any]]:
    return [outputs] if isinstance(outputs, Mapping) else outputs or []
