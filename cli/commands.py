"""The commands of ``d2serve``: where each is written, what it does and which extra it needs.

It imports the standard library only. `d2serve --help` and `--version` therefore work, and a missing
package is named, where `pip install d2serve` brought none of the packages that commands need.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True)
class Command:
    """One command; its module is imported when it is run."""

    module: str
    """In d2serve.cli."""
    function: str
    summary: str
    """The first sentence of its help."""
    extra: str
    """The extra of d2serve that brings what it needs."""
    example: str


COMMANDS = {
    "doctor": Command(
        "models.diagnosing",
        "doctor",
        "Check whether and how a model can be exported, and what a server's settings open.",
        "export",
        "d2serve doctor --config-file COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
    ),
    "export": Command(
        "models.exporting",
        "export",
        "Turn a detectron2 model into a verified archive for TorchServe.",
        "export",
        "d2serve export --config-file config.yaml --name shapes MODEL.WEIGHTS model_final.pth",
    ),
    "list": Command(
        "models.inspecting",
        "list_archives",
        "List the archives of a model store: name, version, runtime and size.",
        "client",
        "d2serve list --model-store model_store",
    ),
    "inspect": Command(
        "models.inspecting",
        "inspect",
        "Show what an archive holds and how it was verified.",
        "client",
        "d2serve inspect model_store/shapes.mar",
    ),
    "extract": Command(
        "models.extracting",
        "extract",
        "Take the program out of an archive, as the engine that runs it wants it.",
        "client",
        "d2serve extract model_store/shapes.mar --output models",
    ),
    "graph": Command(
        "models.picturing",
        "graph",
        "Draw the network of a model: of a config or of a program's file.",
        "export",
        "d2serve graph COCO-Detection/retinanet_R_50_FPN_3x.yaml --output retinanet.svg",
    ),
    "verify": Command(
        "models.verifying",
        "verify",
        "Compare an archive with eager detectron2 again, on your own images.",
        "export",
        "d2serve verify model_store/shapes.mar --config-file config.yaml --images photos "
        "MODEL.WEIGHTS model_final.pth",
    ),
    "diff": Command(
        "models.differing",
        "diff",
        "Show where an archive and eager detectron2 differ, in a table and in pictures.",
        "export",
        "d2serve diff model_store/shapes.mar --config-file config.yaml --images photos "
        "MODEL.WEIGHTS model_final.pth",
    ),
    "bench": Command(
        "models.benching",
        "bench",
        "Measure how fast archives answer on this machine, and say what to configure.",
        "measure",
        "d2serve bench model_store/shapes.mar --images photos --output measured",
    ),
    "evaluate": Command(
        "models.verifying",
        "evaluate",
        "Measure the COCO AP of eager detectron2 and of an archive.",
        "export",
        "d2serve evaluate model_store/shapes.mar --config-file config.yaml "
        "--coco-json annotations.json --image-root images MODEL.WEIGHTS model_final.pth",
    ),
    "serve": Command(
        "servers.serving",
        "serve",
        "Serve archives with TorchServe on this machine, until Ctrl-C.",
        "server",
        "d2serve serve shapes.mar shapes-2.0.mar",
    ),
    "kserve": Command(
        "servers.kserving",
        "kserve",
        "Serve archives on KServe's own Python server, until Ctrl-C.",
        "kserve",
        "d2serve kserve shapes.mar",
    ),
    "ray-serve": Command(
        "servers.ray_serving",
        "ray_serve",
        "Serve archives with Ray Serve, on this machine or on a cluster, until Ctrl-C.",
        "ray",
        "d2serve ray-serve shapes.mar --replicas 1:10",
    ),
    "package": Command(
        "servers.packaging",
        "package",
        "Write what a platform wants to run an archive: image, manifests and the archive itself.",
        "client",
        "d2serve package model_store/shapes.mar --for docker",
    ),
    "upgrade": Command(
        "servers.upgrading",
        "upgrade",
        "Put a new version of a served model in the place of the old one, while requests come.",
        "server",
        "d2serve upgrade shapes shapes-2.0.mar --image photo.jpg",
    ),
    "batch": Command(
        "predictions.batching",
        "batch",
        "Answer many images with an archive, on this machine or on a Ray cluster, into parquet.",
        "batch",
        "d2serve batch model_store/shapes.mar photos --output results",
    ),
    "predict": Command(
        "predictions.predicting",
        "predict",
        "Detect objects in images and videos, with an archive or with a running server.",
        "client",
        "d2serve predict shapes.mar photo.jpg --draw drawn",
    ),
    "label-studio": Command(
        "servers.label_studio",
        "label_studio",
        "Answer Label Studio as its ML backend, until Ctrl-C.",
        "client",
        "d2serve label-studio shapes.mar --label-studio http://127.0.0.1:8080",
    ),
}
SUMMARY = "Export detectron2 models to archives, serve them with TorchServe, and ask the server."


def version_line() -> str:
    """What ``d2serve --version`` prints."""
    try:
        return f"d2serve {metadata.version('d2serve')}"
    except metadata.PackageNotFoundError:
        return "d2serve of an unknown version: it runs from sources that are not installed"


def is_ours(error: ImportError) -> bool:
    """Whether a module of d2serve itself is missing, which no extra brings."""
    return (error.name or "d2serve").partition(".")[0] == "d2serve"


def missing_package(command: str, error: ImportError, extra: str | None = None) -> str:
    """What to install for a command whose import failed; the extra is the command's own."""
    package = (error.name or "").partition(".")[0]
    return (
        f"`d2serve {command}` needs the package {package}, which {sys.executable} cannot import "
        f"({error}). Install it: pip install 'd2serve[{extra or COMMANDS[command].extra}]'"
    )
