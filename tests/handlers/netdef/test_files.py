"""Two files are a network, and what is not is told by what it is, in one sentence or two."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from d2serve.handlers.errors import LoadError, ModelFailed
from d2serve.handlers.netdef.detection import DetectionNetwork
from d2serve.handlers.netdef.files import NET_FILE, WEIGHTS_FILE, read_nets
from d2serve.handlers.netdef.messages import NetDef, OperatorDef, encode
from tests.handlers.netdef.nets import mask_rcnn, retinanet, write
from tests.handlers.samples import cases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, mask_rcnn())


def test_what_is_written_is_read(folder: Path) -> None:
    assert repr(read_nets(folder)) == repr(mask_rcnn())


def _onnx() -> bytes:
    import onnx

    graph = onnx.helper.make_graph([], "g", [], [])
    made: bytes = onnx.helper.make_model(graph).SerializeToString()
    return made


def _graph_def() -> bytes:
    """Two nodes of TensorFlow's, with names and operators as fields 1 and 2."""
    node = b"\x0a\x05input\x12\x0bPlaceholder"
    return (b"\x0a" + bytes([len(node)]) + node) * 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda _: b"", "it holds no operators"),
        (lambda whole: whole[:100], r"bytes should follow where .* damaged, cut short"),
        (lambda _: encode(replace(mask_rcnn()[0], external_output=())), "names no outputs"),
        (lambda _: b"\xff" * 50, "more than 64 bits"),
        (lambda _: _onnx(), "looks like an ONNX model"),
        (lambda _: b"\x08\x01\x12\x03abc", "looks like a TensorFlow SavedModel"),
        (lambda _: _graph_def(), "looks like a TensorFlow graph"),
        (lambda _: b"PK\x03\x04rest", "looks like a zip"),
        (lambda _: b'name: "net"\nop {', r"looks like the net as text \(.pbtxt\)"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (lambda _: encode(NetDef(op=(OperatorDef("Relu"),))), r"operator \(Relu\) has no"),
    ],
)
def test_what_is_no_network_is_named(
    folder: Path, content: Callable[[bytes], bytes], reason: str
) -> None:
    path = folder / NET_FILE
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(LoadError, match=reason) as caught:
        read_nets(folder)
    assert str(caught.value).startswith(f"{path} is no network of Caffe2 (")
    assert "Expected what detectron2's" in str(caught.value)


@pytest.mark.parametrize("missing", [NET_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(LoadError, match=rf"{missing} cannot be read \(No such file"):
        read_nets(folder)


def test_two_files_in_each_others_place(folder: Path) -> None:
    net, fills = mask_rcnn()
    (folder / WEIGHTS_FILE).write_bytes(encode(net))
    with pytest.raises(LoadError, match=r"calculates \(Sub\) where it should hold weights"):
        read_nets(folder)
    write(folder, (fills, net))
    with pytest.raises(LoadError, match="names no outputs"):
        read_nets(folder)


def test_weights_of_another_network(folder: Path) -> None:
    net, _ = mask_rcnn()
    write(folder, (net, retinanet()[1]))
    with pytest.raises(LoadError, match=r"takes data, im_info, std, .* Are the two files of one"):
        DetectionNetwork.load(folder)


RETINANET = retinanet()


@given(st.data())
@cases(150)
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    """Whatever one changes in either file, it loads and answers or says why not."""
    with tempfile.TemporaryDirectory() as made:
        folder = write(Path(made), data.draw(st.sampled_from([mask_rcnn(), RETINANET])))
        path = folder / data.draw(st.sampled_from([NET_FILE, WEIGHTS_FILE]))
        whole = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes(whole[: data.draw(st.integers(1, len(whole)))]))
        with contextlib.suppress(LoadError, ModelFailed):
            DetectionNetwork.load(folder).answer(torch.zeros(3, 20, 40))
