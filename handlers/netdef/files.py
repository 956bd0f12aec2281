"""Reads ``model.pb`` and ``model_init.pb``, and says what is wrong with files that are neither.

Protobuf does not mark its files with what they hold, and reads a file that was cut short as a
smaller one. So what was read has to make sense as well.
"""

from __future__ import annotations

from pathlib import Path

from d2serve.handlers.errors import LoadError
from d2serve.handlers.netdef.messages import NetDef, decode
from d2serve.handlers.netdef.wire import WireError

NET_FILE, WEIGHTS_FILE = "model.pb", "model_init.pb"
"""As ``Caffe2Model.save_protobuf`` of detectron2 names them."""

# How files begin that are taken for these by their name.
_OTHERS = (
    (b"\x08\x01\x12", "a TensorFlow SavedModel"),
    (b"\x08", "an ONNX model"),
    (b"PK", "a zip, as TorchScript programs are"),
    (b"name:", "the net as text (.pbtxt)"),
    (b"op {", "the net as text (.pbtxt)"),
    (b"version https://git-lfs", "a pointer of Git LFS, in place of the file itself"),
)


def read_nets(folder: Path) -> tuple[NetDef, NetDef]:
    """The network in a folder, and the net that fills its weights.

    Raises:
        LoadError: one of the two files is missing, damaged or of another kind.
    """
    net, fills = _read(folder / NET_FILE), _read(folder / WEIGHTS_FILE)
    if not net.external_output:
        raise _damaged(folder / NET_FILE, "the network names no outputs")
    calculating = [each.type for each in fills.op if each.input]
    if calculating:
        raise LoadError(
            f"{folder / WEIGHTS_FILE} calculates ({calculating[0]}) where it should hold weights "
            f"only: is it {NET_FILE} under another name?"
        )
    return net, fills


def _read(path: Path) -> NetDef:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LoadError(
            f"{path} cannot be read ({error.strerror}); expected a folder with {NET_FILE} and "
            f"{WEIGHTS_FILE}, as detectron2's Caffe2Model.save_protobuf writes them."
        ) from None
    try:
        net = decode(NetDef, data)
    except WireError as error:
        raise _damaged(path, str(error), data) from None
    if not net.op:
        raise _damaged(path, "it holds no operators", data)
    nameless = next((each for each in net.op if not each.type or not each.output), None)
    if nameless is not None:
        raise _damaged(path, f"an operator ({nameless.type}) has no type or no output", data)
    return net


def _damaged(path: Path, reason: str, data: bytes = b"") -> LoadError:
    other = next((what for start, what in _OTHERS if data.startswith(start)), None)
    if other is None and _is_graph_def(data):
        other = "a TensorFlow graph"
    likely = f"It looks like {other}." if other else "It is damaged, cut short or of another kind."
    return LoadError(
        f"{path} is no network of Caffe2 ({reason}). {likely} Expected what detectron2's "
        "Caffe2Model.save_protobuf or `d2serve export --format caffe2` wrote."
    )


def _is_graph_def(data: bytes) -> bool:
    """Whether it begins as TensorFlow's does: with a node, which begins with its name."""
    if len(data) < 3 or data[0] != 0x0A:
        return False
    start = 3 if data[1] > 127 else 2
    return data[start : start + 1] == b"\x0a"
