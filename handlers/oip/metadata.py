"""Why: who is to call a model has to know what it takes and answers, and ask the server for it.

TorchServe answers the Open Inference Protocol's metadata itself, without inputs and outputs. What a
handler may add is the customized description of its management API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from d2serve.handlers.oip.outputs import outputs_of
from d2serve.handlers.oip.tensors import BYTES, UINT8
from d2serve.handlers.requests.options import NAMES as OPTIONS
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.runtimes import RUNTIMES


def is_describe(request: Any, headers: Mapping[str, Any]) -> bool:
    """Whether a request asks for the description: TorchServe says so in a header, and no more."""
    return not request and headers.get("describe") == "True"


def describe(spec: ModelSpec, model: str, version: str) -> bytes:
    """The metadata of a model as the Open Inference Protocol has it, and what only d2serve says.

    Args:
        spec: the model's, with the limits that hold.
        model, version: under which it is registered.
    """
    return orjson.dumps(
        {
            "name": model,
            "versions": [version],
            "platform": RUNTIMES[spec.runtime].platform,
            "inputs": [
                {"name": "image", "datatype": BYTES, "shape": [1]},
                {"name": "image", "datatype": UINT8, "shape": [-1, -1, 3]},
            ],
            "outputs": [asdict(each) for each in outputs_of(spec)],
            "family": spec.family,
            "precision": spec.precision,
            "box_mode": spec.box_mode,
            "class_names": spec.class_names,
            "stuff_class_names": spec.stuff_class_names,
            "score_thresh": spec.score_thresh,
            "options": OPTIONS,
            "limits": asdict(spec.limits),
            "schema_version": spec.schema_version,
        }
    )
