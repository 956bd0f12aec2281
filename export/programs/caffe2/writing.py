"""Writes a model's ``model.pb`` and ``model_init.pb``, as detectron2's ``Caffe2Model`` would."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from d2serve.export.errors import ProgramError
from d2serve.export.programs.caffe2.conversion import converted
from d2serve.export.programs.caffe2.forms import DATA, IM_INFO, Form, form_of
from d2serve.export.programs.caffe2.graphs import Graph, traced_graph
from d2serve.export.programs.doubting.doubts import Doubt
from d2serve.handlers.netdef.files import NET_FILE, WEIGHTS_FILE
from d2serve.handlers.netdef.messages import encode

# Of an image to trace with: nothing depends on it, and a network of strides has to survive it.
_SIDE = 128
# protobuf reads no more from a file.
_MOST_BYTES = 2**31 - 1


@dataclass(frozen=True)
class Written:
    """What was written."""

    main: Path
    """model.pb."""
    doubts: tuple[Doubt, ...]
    """Places where the trace made constants of what depends on the image."""


def graph_of(model: nn.Module) -> tuple[Graph, Form]:
    """What a model calls, and the form in which it was traced.

    Args:
        model: detectron2's, in evaluation mode, which refusals.py does not refuse by its classes.

    Raises:
        ProgramError: naming a line that cannot be traced.
    """
    if any(weight.device.type != "cpu" for weight in model.parameters()):
        model = copy.deepcopy(model).cpu()
    form = form_of(model)
    if form is None:
        raise TypeError(f"there is no form for a {type(model).__name__}")
    form.train(model.training)
    data = torch.zeros(1, form.channels, _SIDE, _SIDE)
    graph = traced_graph(form, (data, torch.tensor([[_SIDE, _SIDE, 1.0]])))
    return graph, form


def write_caffe2(model: nn.Module, folder: Path) -> Written:
    """Write the network that predicts, and the one that fills its weights.

    Args:
        model: as ``graph_of`` takes it.
        folder: an empty folder.

    Raises:
        UnsupportedFamily: naming a module with an operator that Caffe2 does not have.
        ProgramError: as ``graph_of``, or its weights are more than a file can hold.
    """
    graph, form = graph_of(model)
    networks = converted(graph, model).written(
        dict(zip(graph.inputs, (DATA, IM_INFO), strict=True)),
        list(zip(graph.outputs, form.outputs, strict=True)),
        form.facts(),
    )
    for network, name in zip(networks, (NET_FILE, WEIGHTS_FILE), strict=True):
        written = encode(network)
        if len(written) > _MOST_BYTES:
            raise ProgramError(
                f"{name} would have {len(written) / 2**30:.1f} GiB, and protobuf reads no more "
                "than 2. Use --format torchscript or --format onnx."
            )
        (folder / name).write_bytes(written)
    return Written(folder / NET_FILE, graph.doubts)
