"""Networks that are read from programs' files: the same parts as eager detectron2's."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from d2serve.export.errors import ConfigError, ExportError, ProgramError
from d2serve.export.picture.condensing import network_of
from d2serve.export.picture.network import Network
from d2serve.export.picture.readers.from_onnx import from_onnx
from d2serve.export.picture.sources import draw, of_file
from d2serve.export.reading.config import ConfigSource
from d2serve.handlers.bundle import read_bundled_spec
from d2serve.handlers.netdef.messages import NetDef, OperatorDef, argument, encode
from tests.conftest import Exporter
from tests.export.picture.geometry import require_readable

# The program ends before postprocessing.
_PARTS = (
    *("input", "preprocessing", "stem", "res2", "res3", "res4", "res5", "fpn"),
    *("anchor_generator", "rpn_head", "proposals", "box_pooler", "box_head", "box_predictor"),
    *("detections", "mask_pooler", "mask_head", "output"),
)


def _program(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder / read_bundled_spec(archive).program


def _weights(network: Network) -> int:
    return sum(block.weights for block in network.blocks)


@pytest.mark.parametrize("kind", ["tracing", "onnxruntime", "openvino"])
def test_a_programs_file_has_the_parts_of_the_model(
    kind: str, exported: Exporter, tmp_path: Path
) -> None:
    network = of_file(_program(exported("mask_rcnn_fpn", kind), tmp_path))
    require_readable(network)
    names = [block.name for block in network.blocks]
    assert sorted(names) == sorted(_PARTS)
    # Norms without parameters are folded into the weights before them.
    assert _weights(network) == pytest.approx(2_165_586, rel=0.005)
    ends = {(network.blocks[e.source].name, network.blocks[e.target].name) for e in network.edges}
    assert {("res4", "fpn"), ("fpn", "rpn_head"), ("fpn", "mask_pooler")} <= ends
    assert ("mask_head", "output") in ends
    if kind != "tracing":
        shapes = {edge.source: edge.shapes for edge in network.edges}
        one, channels, height, width = shapes[names.index("res2")][0]
        assert (one.size, channels.size) == (1, 64)
        assert height.varies and width.varies  # noqa: PT018
    if kind == "onnxruntime":
        assert sum(edge.goes_back for edge in network.edges) == 0


def test_a_scripted_program_has_them_too(exported: Exporter, tmp_path: Path) -> None:
    network = of_file(_program(exported("mask_rcnn_fpn", "scripting"), tmp_path))
    require_readable(network)
    names = {block.name for block in network.blocks}
    # A script knows the stages of a ResNet as a list.
    assert {"stem", "stages.3", "fpn", "rpn_head", "box_head", "mask_head"} <= names
    assert _weights(network) == 2_165_586


def _onnx_file(path: Path, names: tuple[str, ...], sides: tuple[int | str, ...]) -> Path:
    weight = numpy_helper.from_array(np.zeros((8, 3, 3, 3), np.float32), "net.stem.conv.weight")
    dense = numpy_helper.from_array(np.zeros((5, 8), np.float32), "net.head.weight")
    nodes = [
        helper.make_node("Conv", ["x", "net.stem.conv.weight"], ["a"], names[0], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], names[1]),
        helper.make_node("ReduceMean", ["b"], ["c"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["c", "net.head.weight"], ["y"], names[2], transB=1),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(sides))
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "any", [given], [answer], [weight, dense])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(path))
    return path


@pytest.mark.parametrize(
    "names", [("/net/stem/conv/Conv", "/net/stem/Relu", "/net/head/Gemm"), ("", "", "")]
)
def test_an_onnx_file_of_fixed_sides_has_multiply_adds(
    names: tuple[str, str, str], tmp_path: Path
) -> None:
    file = _onnx_file(tmp_path / "x.onnx", names, (1, 3, 10, 20))
    blocks = {block.name: block for block in of_file(file).blocks}
    assert blocks["stem"].weights == 8 * 27
    assert blocks["stem"].multiply_adds == 8 * 27 * 200
    assert blocks["head"].multiply_adds == 40
    file = _onnx_file(tmp_path / "x.onnx", names, (1, 3, "height", "width"))
    blocks = {block.name: block for block in of_file(file).blocks}
    assert blocks["stem"].multiply_adds is None, "it depends on the image"
    assert blocks["head"].multiply_adds == 40


def test_a_module_that_runs_several_times_is_one_part(tmp_path: Path) -> None:
    names = ("/model/pool/Conv", "/model/pool_1/Relu", "/model/net/head/Gemm")
    flow = from_onnx(_onnx_file(tmp_path / "x.onnx", names, (1, 3, 8, 8)))
    assert {each.path for each in flow.operations} == {"", "pool", "net.head"}
    require_readable(network_of(flow, "x", ""))


def _caffe2_files(folder: Path, named: bool) -> Path:
    def filled(name: str, *sizes: int) -> OperatorDef:
        zeros = np.zeros(int(np.prod(sizes)), np.float32)
        arguments = (argument("shape", sizes), argument("values", zeros))
        return OperatorDef(type="GivenTensorFill", output=(name,), arg=arguments)

    def op(kind: str, given: tuple[str, ...], made: str, name: str) -> OperatorDef:
        return OperatorDef(type=kind, input=given, output=(made,), name=name if named else None)

    conv, fc = "backbone.stem.conv1", "roi_heads.box_head.fc1"
    weight = f"{conv}.weight" if named else "673"
    net = NetDef(
        name="x",
        op=(
            op("Conv", ("data", weight), "1", conv),
            op("Relu", ("1",), "2", "backbone.stem"),
            op("RoIAlign", ("2",), "3", "roi_heads.box_pooler"),
            op("FC", ("3", f"{fc}.weight"), "4", fc),
        ),
        external_input=("data", weight, f"{fc}.weight"),
        external_output=("4",),
    )
    fills = NetDef(name="fills", op=(filled(weight, 8, 3, 3, 3), filled(f"{fc}.weight", 5, 8)))
    (folder / "model.pb").write_bytes(encode(net))
    (folder / "model_init.pb").write_bytes(encode(fills))
    return folder / "model.pb"


@pytest.mark.parametrize("named", [True, False])
def test_caffe2s_files_are_read_also_without_names(named: bool, tmp_path: Path) -> None:
    network = of_file(_caffe2_files(tmp_path, named))
    require_readable(network)
    assert _weights(network) == 8 * 27 + 40
    names = [block.name for block in network.blocks]
    assert names[0] == "input" and names[-1] == "output"  # noqa: PT018
    assert "RoIAlign" in [block.detail for block in network.blocks]
    assert "box_head" in names or "fc1" in names


def _saved(folder: Path) -> None:
    torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())).save(str(folder / "x.pt"))  # type: ignore[no-untyped-call]


def test_any_torchscript_program_is_drawn(tmp_path: Path) -> None:
    _saved(tmp_path)
    network = of_file(tmp_path / "x.pt")
    require_readable(network)
    assert _weights(network) == 112


def _cut(folder: Path, name: str, keep: float) -> str:
    file = folder / name
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    return str(file)


def _damaged_onnx(folder: Path) -> str:
    _onnx_file(folder / "x.onnx", ("", "", ""), (1, 3, 8, 8))
    return _cut(folder, "x.onnx", 0.6)


def _damaged_torchscript(folder: Path) -> str:
    _saved(folder)
    return _cut(folder, "x.pt", 0.6)


def _damaged_caffe2(folder: Path) -> str:
    _caffe2_files(folder, True)
    return _cut(folder, "model.pb", 0.6)


def _without_weights(folder: Path) -> str:
    (file := _caffe2_files(folder, True)).with_name("model_init.pb").unlink()
    return str(file)


def _text(name: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / name).write_text("not what its name says\n")
        return str(folder / name)

    return write


def _folder(folder: Path) -> str:
    (folder / "x.onnx").mkdir()
    return str(folder / "x.onnx")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (_damaged_onnx, "is no ONNX file, or damaged"),
        (_text("x.onnx"), "is no ONNX file, or damaged"),
        (_folder, "is a folder. Expected a file: ONNX file"),
        (lambda folder: str(folder / "none.pt"), "there is no such file"),
        (_damaged_torchscript, "is no TorchScript program that can be read here"),
        (_text("x.pt"), "is no TorchScript program that can be read here"),
        (_damaged_caffe2, "is no network of Caffe2"),
        (_without_weights, "model_init.pb cannot be read"),
        (_text("model.pb"), "is no network of Caffe2"),
        (_text("frozen.pb"), "Networks of TensorFlow are not drawn"),
        (_text("x.xml"), "is no OpenVINO model, or damaged"),
        (_text("model_final.pth"), "Give the config of their model"),
        (_text("x.mar"), "d2serve inspect .*--graph"),
        (_text("x.yaml"), "expected a YAML mapping"),
        (lambda _folder: "no_such_config.yaml", "no_such_config.yaml"),
    ],
)
def test_what_is_no_network_is_refused_in_a_sentence(
    write: Callable[[Path], str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=said) as raised:
        draw(ConfigSource(write(tmp_path)))
    assert isinstance(raised.value, (ConfigError, ProgramError))
    assert "\n" not in str(raised.value)
    assert ".log" not in str(raised.value), "that is for what nobody expected"
