"""The metadata of a model: what it takes and answers, which a caller can ask the server for.

In the shape of the Open Inference Protocol's model metadata, and with what only d2serve says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import orjson

from d2serve.handlers.oip.tensors import UINT8
from d2serve.handlers.replies.fields import BYTES, tensors_of
from d2serve.handlers.requests.options import OPTIONS
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.runtimes import RUNTIMES


def describe(
    spec: ModelSpec, model: str, version: str, workers: Mapping[str, int] | None = None
) -> bytes:
    """The metadata of a model as the Open Inference Protocol has it, and what only d2serve says.

    Args:
        spec: the model's, with the limits that hold.
        model, version: under which it is registered.
        workers: what a server knows of the other workers of this model; None leaves it out.
    """
    about_workers = {} if workers is None else {"workers": workers}
    return orjson.dumps(
        {
            "name": model,
            "versions": [version],
            "platform": RUNTIMES[spec.runtime].platform_of(spec.program),
            "inputs": [
                {"name": "image", "datatype": BYTES, "shape": [1]},
                {"name": "image", "datatype": UINT8, "shape": [-1, -1, spec.channels]},
            ],
            "outputs": [asdict(each) for each in tensors_of(spec)],
            "family": spec.family,
            "precision": spec.precision,
            "image_format": spec.image_format,
            "channels": spec.channels,
            "box_mode": spec.box_mode,
            "class_names": spec.class_names,
            "stuff_class_names": spec.stuff_class_names,
            "score_thresh": spec.score_thresh,
            "options": {option.name: option.described() for option in OPTIONS},
            "limits": asdict(spec.limits),
            "schema_version": spec.schema_version,
            **about_workers,
        }
    )
