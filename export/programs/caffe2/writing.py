"""Writes a model as ``model.pb`` and ``model_init.pb``, as detectron2's ``Caffe2Model`` has them."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from d2serve.export.errors import ProgramError, UnsupportedFamily
from d2serve.export.programs.caffe2.conversion import converted
from d2serve.export.programs.caffe2.forms import DATA, IM_INFO, form_of
from d2serve.export.programs.caffe2.graphs import traced_graph
from d2serve.handlers.netdef.messages import NetDef, encode

PREDICT_FILE, INIT_FILE = "model.pb", "model_init.pb"
# Of an image to trace with: nothing depends on it, and a network of strides has to survive it.
_SIDE = 128
# protobuf reads no more from a file.
_MOST_BYTES = 2**31 - 1


def networks_of(model: nn.Module) -> tuple[NetDef, NetDef]:
    """The network that predicts, and the one that fills its weights.

    Args:
        model: detectron2's, in evaluation mode, which refusals.py does not refuse.

    Raises:
        UnsupportedFamily: naming a module with an operator that Caffe2 does not have.
        ProgramError: naming a line that cannot be traced.
    """
    if any(weight.device.type != "cpu" for weight in model.parameters()):
        model = copy.deepcopy(model).cpu()
    form = form_of(model)
    if form is None:
        raise UnsupportedFamily(f"Caffe2 has no form for a {type(model).__name__}.")
    form.train(model.training)
    data = torch.zeros(1, form.channels, _SIDE, _SIDE)
    im_info = torch.tensor([[_SIDE, _SIDE, 1.0]])
    graph = traced_graph(form, (data, im_info))
    net = converted(graph, model)
    return net.written(
        dict(zip(graph.inputs, (DATA, IM_INFO), strict=True)),
        list(zip(graph.outputs, form.outputs, strict=True)),
        form.facts(),
    )


def write_caffe2(model: nn.Module, folder: Path) -> Path:
    """Write both networks.

    Args:
        model: as ``networks_of`` takes it.
        folder: an empty folder.

    Returns:
        The main file, model.pb.

    Raises:
        UnsupportedFamily: as ``networks_of``.
        ProgramError: as ``networks_of``, or its weights are more than a file can hold.
    """
    for network, name in zip(networks_of(model), (PREDICT_FILE, INIT_FILE), strict=True):
        written = encode(network)
        if len(written) > _MOST_BYTES:
            raise ProgramError(
                f"{name} would have {len(written) / 2**30:.1f} GiB, and protobuf reads no more "
                "than 2. Use --format torchscript or onnx."
            )
        (folder / name).write_bytes(written)
    return folder / PREDICT_FILE
