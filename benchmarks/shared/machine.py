"""The machine and the versions that figures come from, without which they mean nothing."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version

import detectron2
import psutil

from d2serve.handlers.cores import available_cores
from d2serve.server.measuring.machine import cpu_model

_PACKAGES = (
    "torch",
    "torchvision",
    "torchserve",
    "onnxruntime",
    "openvino",
    "nncf",
    "fastapi",
    "numpy",
    "pillow",
    "pycocotools",
)


@dataclass(frozen=True)
class Machine:
    """Where a run was made; neither the host's name nor any path of it."""

    cpu: str
    cores: int
    """That this process may use."""
    memory_gib: float
    system: str
    versions: dict[str, str]


def this_machine() -> Machine:
    """Describe the machine that this runs on."""
    return Machine(
        cpu=cpu_model(),
        cores=available_cores(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        versions={
            "python": platform.python_version(),
            "detectron2": str(detectron2.__version__),
            **{package: version(package) for package in _PACKAGES},
        },
    )
