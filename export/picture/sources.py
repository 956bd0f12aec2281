"""Draws whatever has a network: a program's file, or a config whose model is built for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from d2serve.export.errors import ConfigError, ProgramError
from d2serve.export.failures import in_a_sentence
from d2serve.export.picture.condensing import network_of
from d2serve.export.picture.from_model import from_model
from d2serve.export.picture.network import Network
from d2serve.export.picture.operations import Flow
from d2serve.export.picture.readers.from_caffe2 import from_caffe2
from d2serve.export.picture.readers.from_onnx import from_onnx
from d2serve.export.picture.readers.from_openvino import from_openvino
from d2serve.export.picture.readers.from_torchscript import from_torchscript
from d2serve.export.picture.svg import svg_of
from d2serve.export.picture.words import about_model
from d2serve.export.proof.oracle import prepared
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import family_of
from d2serve.export.reading.image_form import image_form_of
from d2serve.export.reading.samples import load_sample, most_sample_pixels
from d2serve.export.reading.weights import build_model, load_weights
from d2serve.export.rewrites.stand_ins import runnable


@dataclass(frozen=True)
class Format:
    """How files of one kind are read."""

    what: str
    read: Callable[[Path], Flow]


FORMATS = {
    ".onnx": Format("ONNX file", from_onnx),
    ".pt": Format("TorchScript program, whose file has no shapes", from_torchscript),
    ".ts": Format("TorchScript program, whose file has no shapes", from_torchscript),
    ".torchscript": Format("TorchScript program, whose file has no shapes", from_torchscript),
    ".xml": Format("OpenVINO model", from_openvino),
    ".pb": Format("Caffe2 network, whose file has no shapes", from_caffe2),
}
"""By the ending of a file's name."""
_WEIGHTS = (".pth", ".pkl", ".safetensors", ".ckpt")


@in_a_sentence
def draw(source: ConfigSource) -> str:
    """The picture, as the text of an SVG file, of a program's file or of a config's model.

    Args:
        source: a file of one of FORMATS, or a config; all but the name matters to a config only.

    Raises:
        ExportError: it cannot be read, built or run; the message says what to do.
    """
    file = Path(source.config_file)
    if file.suffix.lower() in FORMATS:
        return svg_of(of_file(file))
    if file.suffix.lower() in _WEIGHTS:
        raise ConfigError(
            f"{file} holds weights, which have no network. Give the config of their model, and "
            f"after it MODEL.WEIGHTS {file}"
        )
    if file.suffix.lower() == ".mar":
        raise ConfigError(
            f"{file} is an archive, which has its picture in it: d2serve inspect {file} --graph "
            "out.svg"
        )
    return svg_of(of_config(load_config(source), file.stem))


@in_a_sentence
def draw_file(file: Path, title: str) -> str:
    """The picture of a program's file, under another title; raises as ``draw``."""
    return svg_of(of_file(file, title))


def of_file(file: Path, title: str = "") -> Network:
    """The network of a program's file.

    Raises:
        ProgramError: it is not there, damaged or of another kind.
    """
    form = FORMATS.get(file.suffix.lower())
    if form is None:
        raise ProgramError(
            f"{file} is none of the files that are drawn. Expected one that ends in "
            f"{', '.join(FORMATS)}."
        )
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "cannot be opened: there is no such file"
        raise ProgramError(f"{file} {what}. Expected a file: {form.what.partition(',')[0]}.")
    flow = form.read(file)
    return network_of(flow, title or file.name, form.what)


def of_config(config: ModelConfig, title: str) -> Network:
    """The network of a config's model, as eager detectron2 runs it on the built-in image.

    Weights are loaded where they are a file of this machine. Otherwise they are random, and heads
    that work on what was found may find nothing.

    Raises:
        ExportError: the model cannot be built or run.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(config)
    has_weights = bool(config.weights) and Path(config.weights).is_file()
    if has_weights:
        load_weights(model, config)
    family = family_of(model)
    model, _notes = runnable(model, config.device)
    form = image_form_of(model, config)
    sample = load_sample(None, form, most_sample_pixels(config.min_size_test))
    given = prepared(sample, form, config.min_size_test, config.max_size_test)
    weights = "" if has_weights else ", with random weights"
    about = about_model(family.name, *sample.shape[:2]) + weights
    return from_model(model, given, title, about, with_time=True)
