"""Which Caffe2 files are run in Caffe2 itself: ours, and upstream's own, each with its model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.programs.building import Order, write_program
from d2serve.export.programs.tracing import program_inputs
from d2serve.export.programs.unexportable import why_unexportable
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import family_of
from d2serve.export.reading.weights import load_model
from d2serve.export.request import ExportRequest
from d2serve.handlers.spec.runtimes import CAFFE2, RUNTIMES, TRACING
from examples.shapes.recipes import MODEL_NAMES, MODELS_FOLDER, config_file
from tests import upstream_files

_PROJECTS = {
    "point_rend": ("detectron2.projects.point_rend",),
    "deeplab_v3plus": ("detectron2.projects.deeplab",),
    "panoptic_deeplab": ("detectron2.projects.panoptic_deeplab",),
}
"""What registers the parts of a model."""


@dataclass(frozen=True)
class Subject:
    """A model, and its Caffe2 files."""

    name: str
    family: str
    files: Path
    oracle: Oracle
    min_size: int
    max_size: int
    rgb: bool
    upstreams: bool
    """Whether upstream's tracer wrote the files."""


def ours(folder: Path) -> tuple[list[Subject], dict[str, str]]:
    """Files that are written now of the example models, and why those are missing that are.

    Args:
        folder: to write them to.
    """
    subjects: list[Subject] = []
    refused: dict[str, str] = {}
    for name in MODEL_NAMES:
        try:
            subjects.append(_ours(name, folder / name))
        except UnsupportedFamily as error:
            refused[name] = str(error)
    return subjects, refused


def upstreams() -> list[Subject]:
    """The files of upstream's tracer in tests/data/caffe2."""
    return [
        _subject(
            f"{name} (upstream's)",
            upstream_files.FOLDER / name,
            ConfigSource(
                str(upstream_files.MODELS / f"{model}.yaml"),
                ("MODEL.WEIGHTS", str(upstream_files.MODELS / f"{model}.pth")),
            ),
            upstreams=True,
        )
        for name, model in upstream_files.MODEL_OF.items()
    ]


def _ours(name: str, folder: Path) -> Subject:
    config, weights = config_file(name), str(MODELS_FOLDER / f"{name}.pth")
    overrides = (
        ("MODEL.WEIGHTS", weights)
        if config.suffix == ".yaml"
        else (f"train.init_checkpoint={weights}",)
    )
    imports = ("examples.shapes.dataset", *_PROJECTS.get(name, ()))
    source = ConfigSource(str(config), overrides, imports)
    loaded = load_config(source)
    model = load_model(loaded)
    family, facts = family_of(model), RUNTIMES[CAFFE2]
    refusal = why_unexportable(model, facts, TRACING)
    if refusal is not None:
        raise UnsupportedFamily(refusal)
    request = ExportRequest(source=source, method=TRACING, name=name, format=facts.format)
    folder.mkdir(parents=True)
    image: dict[str, torch.Tensor | int] = {"image": torch.zeros(3, 128, 128)}
    image.update(height=128, width=128)
    write_program(Order(request, model, family, program_inputs(image, False), folder, {}))
    return _subject(name, folder, source, upstreams=False)


def _subject(name: str, files: Path, source: ConfigSource, *, upstreams: bool) -> Subject:
    config = load_config(source)
    oracle = Oracle(config)
    return Subject(
        name,
        family_of(oracle.model).name,
        files,
        oracle,
        config.min_size_test,
        config.max_size_test,
        config.image_format == "RGB",
        upstreams,
    )
