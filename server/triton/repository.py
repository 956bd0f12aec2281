"""The files of a model in a Triton model repository, beside the archive and its library."""

from __future__ import annotations

import json
import re
from pathlib import Path

from d2serve.client.own_handling import Handling
from d2serve.handlers.cores import available_cores
from d2serve.handlers.oip.tensors import UINT8
from d2serve.handlers.replies.fields import BYTES, FP32, INT64, tensors_of
from d2serve.handlers.requests.options import OPTIONS
from d2serve.handlers.runtimes.batching import BatchPlanner
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.runtimes import RUNTIMES

HANDLING = "d2serve"
"""The parameter of a model by which model.py gets to know how its archive is opened."""
_MODEL = Path(__file__).with_name("model.py")
_ONE_BY_ONE = ("# The program takes one image.", "max_batch_size: 0")
_TOGETHER = (
    "# The program takes several images, which pays on a GPU. Shapes have a first side more, the",
    "# batch's, which is 1 in a request: Triton joins requests. Without it: max_batch_size: 0.",
    "max_batch_size: 8",
    "dynamic_batching { max_queue_delay_microseconds: 5000 }",
)
_ON_CPUS = (
    "# Each is a process with a copy of the model; they share the cores. The machine that wrote",
    "# this has as many.",
)
_WHERE_THERE_IS_A_GPU = (
    "# A process and a copy of the model, on each GPU or, where there is none, on the cores.",
    "instance_group { kind: KIND_AUTO count: 1 }",
)
_DATATYPES = {float: (FP32, (1,)), int: (INT64, (1,)), list: (BYTES, (-1,)), str: (BYTES, (1,))}
"""Type and shape of an option's input, by its type in Python."""


def version_number(version: str) -> str:
    """What Triton calls a version, for which it wants a number above 0: of 2.1 it is 2, of one that
    starts with no such number 1."""
    found = re.match(r"0*([1-9]\d*)", version)
    return found[1] if found else "1"


def files_of(spec: ModelSpec, name: str, version: str, handling: Handling) -> dict[str, str]:
    """The text of each file, by its path.

    Args:
        spec, name, version: of the archive.
        handling: how it wants to be opened.
    """
    folder = f"models/{name}"
    return {
        f"{folder}/config.pbtxt": _configuration(spec, handling),
        f"{folder}/{version_number(version)}/model.py": _MODEL.read_text(encoding="utf-8"),
    }


def _configuration(spec: ModelSpec, handling: Handling) -> str:
    inputs = [
        ("image", BYTES, (1,)),
        ("pixels", UINT8, (-1, -1, spec.channels)),
        *((each.name, *_DATATYPES[each.type]) for each in OPTIONS),
        ("outputs", BYTES, (-1,)),
    ]
    facts = RUNTIMES[spec.runtime]
    batching = handling.get("batching", "auto")
    together = BatchPlanner(batching, spec.dynamic_batch, facts.runs_on_gpu).together
    # ONNX Runtime uses a GPU as another package, which whoever installs it writes here, too.
    gpu_is_usual = facts.runs_on_gpu and facts.needs_torch
    on_cpus = *_ON_CPUS, f"instance_group {{ kind: KIND_CPU count: {available_cores()} }}"
    lines = [
        "# Written by `d2serve package --for triton`: docs/triton.md.",
        'backend: "python"',
        "",
        "# The image is a file (image) or its pixels. The others are options, as are parameters of",
        "# the request; outputs names those wanted.",
        *(_tensor("input", *each, " optional: true") for each in inputs),
        *(_tensor("output", each.name, each.datatype, each.shape) for each in tensors_of(spec)),
        "",
        *(_TOGETHER if together else _ONE_BY_ONE),
        "",
        *(_WHERE_THERE_IS_A_GPU if gpu_is_usual else on_cpus),
        *(["", *_parameter(handling)] if handling else []),
    ]
    return "\n".join((*lines, ""))


def _parameter(handling: Handling) -> tuple[str, ...]:
    value = json.dumps(json.dumps(handling))
    return (
        "# As the archive's model-config.yaml has it: batching and limits of requests.",
        f'parameters {{ key: "{HANDLING}" value {{ string_value: {value} }} }}',
    )


def _tensor(kind: str, name: str, datatype: str, shape: tuple[int, ...], more: str = "") -> str:
    triton = "STRING" if datatype == BYTES else datatype
    return f'{kind} {{ name: "{name}" data_type: TYPE_{triton} dims: {list(shape)}{more} }}'
