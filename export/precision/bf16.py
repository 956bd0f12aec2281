"""Makes programs that run their network in bf16 and their arithmetic on boxes in fp32.

In bf16 a box coordinate of 800 pixels is rounded to a multiple of 4, which changes the boxes that
survive suppression. So the network runs in bf16 (see ``layers``), and in fp32 all arithmetic on
boxes and scores, and the layers whose numbers are answered.

OpenVINO runs a whole program in the precision that it is compiled with, except for operations that
are marked. Python can set no such mark, so it is written into the XML of the IR.
"""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as opset

from d2serve.export.precision.layers import layers_of

_MARK = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:bf16,f16"}
# Types of the IR that hold no number which could lose precision.
_UNMARKED = frozenset({"Const", "Parameter", "Result"})


def to_bf16(model: ov.Model) -> ov.Model:
    """A program that runs its network in bf16, when compiled so, and its arithmetic in fp32.

    Compiled with ``INFERENCE_PRECISION_HINT`` ``f32`` it computes what ``model`` does.

    Args:
        model: any detectron2 model; it is left as it is.
    """
    layers = layers_of(model)
    lowered = marked(model, layers.arithmetic - layers.entering | layers.answering)
    _fill_zeros_in_bf16(lowered, layers.between)
    return lowered


def marked(model: ov.Model, exact: frozenset[str]) -> ov.Model:
    """A program that runs some operations in fp32 whatever it is compiled for.

    Args:
        model: it is left as it is.
        exact: the operations, by their unique name.
    """
    with tempfile.TemporaryDirectory(prefix="d2serve-precision-") as folder:
        xml = Path(folder, "program.xml")
        ov.serialize(model, xml)
        tree = ET.parse(xml)
        for layer in tree.iterfind("./layers/layer"):
            if layer.get("name") in exact and layer.get("type") not in _UNMARKED:
                _mark(layer)
        # Bodies of If and Loop hold no network: NMS and its like.
        for layer in tree.iterfind(".//body//layer"):
            if layer.get("type") not in _UNMARKED:
                _mark(layer)
        tree.write(xml)
        # Weights are read, not mapped: the folder ends here.
        return ov.Core().read_model(xml, config={"ENABLE_MMAP": False})


def _fill_zeros_in_bf16(model: ov.Model, between: frozenset[str]) -> None:
    """Make the zeros, into which the network puts the ROIs of each level, in the type they are of.

    OpenVINO makes them in fp32, for as many ROIs as there are, and then converts them.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "ScatterNDUpdate" or node.get_friendly_name() not in between:
            continue
        filled = node.input_value(0).get_node()
        if filled.get_type_name() != "Broadcast":
            continue
        value = filled.input_value(0).get_node()
        if value.get_type_name() == "Constant" and not value.data.any():
            zero = opset.constant(np.zeros(value.data.shape), ov.Type.bf16)
            zeros = opset.broadcast(zero, filled.input_value(1))
            node.input(0).replace_source_output(opset.convert(zeros, "f32").output(0))
    model.validate_nodes_and_infer_types()


def _mark(layer: ET.Element) -> None:
    info = layer.find("rt_info")
    if info is None:
        info = ET.SubElement(layer, "rt_info")
    ET.SubElement(info, "attribute", _MARK)
