"""Broken configs, weights and images as people have them, each with what its refusal must say.

Each writes what it needs into a folder and returns the words of ``d2serve export``.
"""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

Words = list[str]
Case = tuple[Callable[[Path, Path], Words], str]
"""Makes a case of (folder, a config that works), and a pattern for its message."""


def _yaml(text: str, said: str) -> Case:
    """A config of this text; TINY stands for one that works."""

    def write(folder: Path, tiny: Path) -> Words:
        (folder / "broken.yaml").write_text(text.replace("TINY", str(tiny)))
        return ["--config-file", str(folder / "broken.yaml")]

    return write, said


def _bytes(content: bytes, said: str, name: str = "broken.yaml") -> Case:
    def write(folder: Path, _tiny: Path) -> Words:
        (folder / name).write_bytes(content)
        return ["--config-file", str(folder / name)]

    return write, said


def _own(text: str, said: str) -> Case:
    """A config that works but for these lines."""
    return _yaml(f"_BASE_: TINY\n{text}\n", said)


def _words(*words: str, said: str) -> Case:
    def write(_folder: Path, tiny: Path) -> Words:
        return ["--config-file", str(tiny), *words]

    return write, said


def _lazy(text: str, said: str) -> Case:
    def write(folder: Path, _tiny: Path) -> Words:
        (folder / "broken.py").write_text(text)
        sizes = ["--min-size-test", "96", "--max-size-test", "160", "--image-format", "BGR"]
        return ["--config-file", str(folder / "broken.py"), *sizes]

    return write, said


def _module(text: str, said: str) -> Case:
    """A module of the user's own, given with --import; the test runs in its folder."""

    def write(folder: Path, tiny: Path) -> Words:
        (folder / "broken_module.py").write_text(text)
        return ["--config-file", str(tiny), "--import", "broken_module"]

    return write, said


def _weights(change: Callable[[dict[str, torch.Tensor]], Any], said: str) -> Case:
    """What training wrote, changed."""

    def write(folder: Path, tiny: Path) -> Words:
        state = torch.load(tiny.with_name("tiny.pth"), weights_only=True)["model"]
        torch.save(change(state), folder / "broken.pth")
        return ["--config-file", str(tiny), "MODEL.WEIGHTS", str(folder / "broken.pth")]

    return write, said


def _file(content: bytes, said: str, name: str = "broken.pth") -> Case:
    """A file in place of weights."""

    def write(folder: Path, tiny: Path) -> Words:
        (folder / name).write_bytes(content)
        return ["--config-file", str(tiny), "MODEL.WEIGHTS", str(folder / name)]

    return write, said


def _image(content: bytes, said: str, name: str = "broken.png") -> Case:
    def write(folder: Path, tiny: Path) -> Words:
        (folder / name).write_bytes(content)
        return ["--config-file", str(tiny), "--sample-image", str(folder / name)]

    return write, said


def _saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _scripted() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def _arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones(3))
    return buffer.getvalue()


def _picture(form: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, form)
    return buffer.getvalue()


def _png_of(width: int, height: int) -> bytes:
    """A PNG that says that it is so large, and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + kind + data
        chunks += struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


class Hook:
    """Of a class that no reader knows."""


_LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
_PAGE = b"<!DOCTYPE html>\n<html><title>Google Drive - Virus scan warning</title></html>"
_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 1\n"
_LINEAR = """
from detectron2.config import LazyCall as L
from torch import nn
model = L(nn.Linear)(in_features=2, out_features=3)
train = {"init_checkpoint": "x.pth", "device": "cpu"}
"""
_NAME = "backbone.fpn_lateral2.weight"

CONFIGS: dict[str, Case] = {
    "empty": _bytes(b"", r"broken\.yaml is empty.*config\.yaml"),
    "blanks": _bytes(b" \n\n", r"broken\.yaml holds nothing but blanks"),
    "comments": _yaml("# nothing\n", r"broken\.yaml holds nothing, expected a YAML mapping"),
    "noise": _bytes(bytes(range(256)) * 4, r"broken\.yaml is binary"),
    "image": _bytes(_picture("PNG"), r"broken\.yaml is a PNG image"),
    "weights": _bytes(_saved({"model": {}}), r"MODEL\.WEIGHTS"),
    "pickled weights": _bytes(
        pickle.dumps({"model": np.ones(3)}), r"pickle, but not one of a config.*MODEL\.WEIGHTS"
    ),
    "page": _bytes(_PAGE, r"broken\.yaml is a web page"),
    "pointer of git-lfs": _bytes(_LFS, r"broken\.yaml .*git lfs pull"),
    "tabs": _yaml("MODEL:\n\tMASK_ON: True\n", r"broken\.yaml, line 2.*never with tabs"),
    "unclosed": _yaml("MODEL: [1, 2\nSEED: 3\n", r"broken\.yaml, line \d: this is no YAML"),
    "list": _yaml("- MODEL\n- INPUT\n", r"broken\.yaml holds a list, expected a YAML mapping"),
    "text": _yaml("just words\n", r"broken\.yaml holds a str, expected a YAML mapping"),
    "utf-16 without its mark": _bytes("SEED: 1\n".encode("utf-16-le"), "broken.yaml is binary"),
    "latin-1": _bytes("OUTPUT_DIR: größe\n".encode("latin-1"), r"UTF-8.*save it as UTF-8"),
    "two documents": _yaml("SEED: 1\n---\nSEED: 2\n", r"broken\.yaml, line 2"),
    "of itself": _yaml("MODEL: &m\n  SELF: *m\n", r"broken\.yaml, line \d: .*no end"),
    "billion laughs": _yaml(_LAUGHS, r"broken\.yaml, line \d+: its aliases stand for more than"),
    "deep": _yaml(f"X: {'[' * 3000}{']' * 3000}\n", r"broken\.yaml is nested too deeply"),
    "runs code": _own("OUTPUT_DIR: !!python/object/apply:os.getcwd []", r"line 2: .*os\.getcwd"),
    "tag of its own": _own("OUTPUT_DIR: !env HOME", r"line 2: the tag !env is not known"),
    "base of itself": _yaml("_BASE_: broken.yaml\n", r"_BASE_ leads back to itself"),
    "base missing": _yaml(
        "_BASE_: no_such.yaml\n", r"broken\.yaml: its _BASE_ no_such\.yaml is not"
    ),
    "base of no text": _yaml("_BASE_: 3\n", r"broken\.yaml: _BASE_ is 3, expected the path"),
    "base far away": _yaml("_BASE_: http://127.0.0.1:9/b.yaml\n", r"127\.0\.0\.1:9/b\.yaml"),
    "base no yaml": _yaml("_BASE_: [TINY, TINY.pth]\n", r"tiny\.yaml\.pth is not there"),
    "no such meta-architecture": _own(
        "MODEL: {META_ARCHITECTURE: MyRCNN}", r"MyRCNN is not registered.*--import"
    ),
    "no such heads": _own("MODEL: {ROI_HEADS: {NAME: MyHeads}}", r"MyHeads.*--import"),
    "no such backbone": _own("MODEL: {BACKBONE: {NAME: build_mine}}", r"build_mine.*--import"),
    "no classes": _own("MODEL: {ROI_HEADS: {NUM_CLASSES: 0}}", r"NUM_CLASSES is 0, expected"),
    "classes as text": _own(
        "MODEL: {ROI_HEADS: {NUM_CLASSES: three}}", r"NUM_CLASSES is three \(str\), expected int"
    ),
    "size below zero": _own("INPUT: {MIN_SIZE_TEST: -1}", r"INPUT\.MIN_SIZE_TEST is -1, expected"),
    "no size": _own("INPUT: {MAX_SIZE_TEST: 0}", r"INPUT\.MAX_SIZE_TEST is 0, expected"),
    "no deviation": _own("MODEL: {PIXEL_STD: [1.0, 0.0, 1.0]}", r"PIXEL_STD is .*above 0"),
    "deviation of two": _own("MODEL: {PIXEL_STD: [1.0, 1.0]}", r"PIXEL_MEAN has 3 .*PIXEL_STD 2"),
    "mean of texts": _own("MODEL: {PIXEL_MEAN: [a, b, c]}", r"PIXEL_MEAN is .*a number for each"),
    "section as number": _own("MODEL: 5", r"MODEL\b.*(keys|same kind)"),
    "empty section": _own("MODEL:", r"MODEL is None, expected keys"),
    "data set as text": _own("DATASETS: {TRAIN: mine}", r"DATASETS\.TRAIN is mine \(str\).*a list"),
    "of a later version": _own("VERSION: 3", r"VERSION 3, expected 1 to 2"),
    "format of no image": _own("INPUT: {FORMAT: XYZ}", r"image format is XYZ"),
    "feature of no backbone": _own(
        "MODEL: {RPN: {IN_FEATURES: [p9]}}", r"cannot build .*p9.*rpn\.py:\d+.*value of the config"
    ),
    "depth of no ResNet": _own("MODEL: {RESNETS: {DEPTH: 17}}", r"cannot build .*17"),
    "no kind of device": _own("MODEL: {DEVICE: gpu}", r"device is 'gpu', expected cpu or cuda"),
    "null device": _own("MODEL: {DEVICE: null}", r"MODEL\.DEVICE is None, expected a name"),
    "null model": _own("MODEL: {META_ARCHITECTURE: null}", r"META_ARCHITECTURE is None"),
    "data sets of numbers": _own("DATASETS: {TEST: [3, 4]}", r"DATASETS\.TEST has 3, expected"),
    "folder": (lambda folder, _tiny: ["--config-file", str(folder)], r"is a folder, expected"),
    "not there": (lambda _folder, _tiny: ["--config-file", "no.yaml"], r"no\.yaml is neither"),
    "odd overrides": _words("MODEL.WEIGHTS", said=r"KEY VALUE pairs; got 1 words"),
    "misspelt override": _words("MODEL.WEIGTHS", "x", said=r"override .*MODEL\.WEIGTHS"),
    "override of a wrong type": _words("INPUT.MIN_SIZE_TEST", "big", said=r"MIN_SIZE_TEST is big"),
    "pickle with code": _bytes(
        pickle.dumps({"X": Hook()}), r"cfg\.pkl is a pickle.*Hook.*cfg\.dump\(\)", "cfg.pkl"
    ),
    "cut pickle": _bytes(pickle.dumps({"X": "y" * 99})[:40], r"cfg\.pkl is a pickle", "cfg.pkl"),
    "lazy that raises": _lazy("raise ValueError('luck')", r"broken\.py .*ValueError: luck, line 1"),
    "lazy that exits": _lazy("import sys; sys.exit(3)", r"broken\.py .*SystemExit"),
    "lazy of no Python": _lazy("model = (\n", r"broken\.py .*SyntaxError: .*line 1"),
    "lazy without a model": _lazy("train = {'seed': 1}", r"broken\.py has no `model`"),
    "lazy with a model of no call": _lazy("model = {'depth': 3}", r"expected a torch module"),
    "lazy with a wrong argument": _lazy(
        _LINEAR.replace("out_features", "out_featurs"), r"cannot build .*out_featurs"
    ),
    "lazy of itself": _lazy("model = {'a': '${model}'}\n", r"broken\.py|cannot build"),
    "lazy without its neighbour": _lazy("from .base import model\n", r"broken\.py .*base"),
    "lazy with an interpolation to nothing": _lazy(
        _LINEAR.replace('"x.pth"', '"${nothing}"'), r"broken\.py has a value .*nothing"
    ),
    "lazy with sizes below zero": _yaml(
        "model: {_target_: torch.nn.Linear}\n"
        "dataloader: {test: {mapper: {image_format: BGR, augmentations: [{max_size: 9,\n"
        "  _target_: detectron2.data.transforms.ResizeShortestEdge, short_edge_length: -3}]}}}\n",
        r"a short edge of -3 pixels",
    ),
    "lazy of a missing package": _lazy("import no_such_package\n", r"broken\.py .*no_such_package"),
    "lazy YAML that runs code": _yaml(
        "model: {_target_: os.system, command: ls}\n"
        "dataloader: {test: {mapper: {augmentations: [], image_format: BGR}}}\n",
        r"calls os\.system.*--import",
    ),
    "module that is not there": _words("--import", "no_such", said=r"--import no_such: cannot"),
    "module that raises": _module("1 / 0", r"--import broken_module: .*ZeroDivisionError"),
    "module that exits": _module("raise SystemExit(2)", r"--import broken_module: .*SystemExit"),
    "names too few": _words("--class-names", "a,b", said=r"--class-names has 2 names.*3 classes"),
}

WEIGHTS: dict[str, Case] = {
    "not there": _words(
        "MODEL.WEIGHTS", "no/such.pth", said=r"no/such\.pth cannot be loaded: no such"
    ),
    "none named": _words("MODEL.WEIGHTS", "", said=r"names no weights.*MODEL\.WEIGHTS"),
    "far away": _words("MODEL.WEIGHTS", "http://127.0.0.1:9/m.pth", said=r"127\.0\.0\.1:9/m\.pth"),
    "of another scheme": _words("MODEL.WEIGHTS", "s3://bucket/m.pth", said=r"s3://bucket/m\.pth"),
    "folder": (
        lambda folder, tiny: ["--config-file", str(tiny), "MODEL.WEIGHTS", str(folder)],
        r"is a folder, expected a weights file",
    ),
    "empty": _file(b"", r"broken\.pth is empty"),
    "page": _file(_PAGE, r"broken\.pth is a web page"),
    "pointer of git-lfs": _file(_LFS, r"broken\.pth .*git lfs pull"),
    "text": _file(b"model_0001999.pth", r"broken\.pth is text"),
    "noise": _file(bytes(range(256)) * 40, r"broken\.pth cannot be loaded: it is damaged"),
    "cut": _file(_saved({"a": torch.ones(9000)})[:20000], r"broken\.pth .*without its end"),
    "cut safetensors": _file(
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}     ',
        r"broken\.safetensors cannot be loaded",
        "broken.safetensors",
    ),
    "TorchScript": _file(_scripted(), r"broken\.pth is a TorchScript program"),
    "ONNX": _file(b"\x08\x08\x12\x07pytorch", r"broken\.onnx is an ONNX model", "broken.onnx"),
    "numpy archive": _file(_arrays(), r"broken\.pth is a numpy archive"),
    "image": _file(_picture("JPEG"), r"broken\.pth is a JPEG image"),
    "compressed": _file(b"\x1f\x8b\x08" + b"x" * 40, r"broken\.pth is compressed with gzip"),
    "HDF5": _file(b"\x89HDF\r\n\x1a\n" + b"\0" * 40, r"broken\.h5 is an HDF5 file", "broken.h5"),
    "list": _weights(lambda _state: [1, 2], r"broken\.pth holds a list"),
    "one tensor": _weights(lambda _state: torch.ones(3), r"broken\.pth holds a Tensor"),
    "no tensors": _weights(lambda _state: {"epoch": 3}, r"no tensors by name; it has epoch"),
    "code": _weights(
        lambda state: {"model": state, "hook": Hook()},
        r"broken\.pth holds more than tensors \(tests\.cli\.broken_inputs\.Hook\).*--trust-weights",
    ),
    "of another model": _weights(
        lambda state: {f"encoder.layer{n}": each for n, each in enumerate(state.values())},
        r"does not fit the config",
    ),
    "of other shapes": _weights(
        lambda state: {**state, _NAME: state[_NAME][:3]}, rf"1 tensors differ \({_NAME} is \(3, "
    ),
    "without one tensor": _weights(
        lambda state: {key: each for key, each in state.items() if key != _NAME},
        rf"{_NAME} is missing",
    ),
    "without a dimension": _weights(
        lambda state: {**state, _NAME: torch.tensor(1.0)}, rf"{_NAME} is \(\), expected"
    ),
    "complex": _weights(lambda state: {**state, _NAME: state[_NAME] * 1j}, "is of complex64"),
    "integers": _weights(
        lambda state: {**state, _NAME: (state[_NAME] * 99).to(torch.int8)}, "is of int8"
    ),
    "not numbers": _weights(
        lambda state: {**state, _NAME: state[_NAME] * float("nan")}, r"no numbers \(NaN\)"
    ),
    "infinite": _weights(
        lambda state: {**state, _NAME: state[_NAME] + float("inf")}, "infinite values"
    ),
    "sets to choose from": _weights(
        lambda state: {"teacher": state, "student": state}, r"teacher, student.*--weights-key"
    ),
    "no such set": _words("--weights-key", "ema", said=r"--weights-key is ema.*model"),
}

IMAGES: dict[str, Case] = {
    "not there": _words("--sample-image", "no.jpg", said=r"no\.jpg cannot be read"),
    "folder": (
        lambda folder, tiny: ["--config-file", str(tiny), "--sample-image", str(folder)],
        r"--sample-image .* cannot be read",
    ),
    "empty": _image(b"", r"broken\.png cannot be read"),
    "text": _image(b"not an image", r"broken\.png cannot be read"),
    "cut PNG": _image(_picture("PNG")[:900], r"broken\.png cannot be read"),
    "cut JPEG": _image(_picture("JPEG")[:300], r"broken\.jpg cannot be read", "broken.jpg"),
    "enormous": _image(_png_of(60000, 60000), r"broken\.png cannot be read"),
    "page": _image(_PAGE, r"broken\.jpg cannot be read", "broken.jpg"),
    "drawing": _image(
        b'<svg xmlns="http://www.w3.org/2000/svg"/>', r"broken\.svg cannot be read", "broken.svg"
    ),
    "weights": _image(_saved({"a": torch.ones(2)}), r"broken\.png cannot be read"),
}
