"""The machine and the versions that figures come from, without which they mean nothing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import detectron2

from d2serve.server.measuring import machine

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
    here = machine.this_machine()
    return Machine(
        cpu=here.cpu,
        cores=here.cores,
        memory_gib=here.memory_gib,
        system=here.system,
        versions={
            "python": here.python,
            "detectron2": str(detectron2.__version__),
            **{package: version(package) for package in _PACKAGES},
        },
    )
