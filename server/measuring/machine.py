"""The machine that figures come from, without which they mean nothing."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

from d2serve.handlers.cores import available_cores


@dataclass(frozen=True)
class Machine:
    """Where a run was made; neither the host's name nor any path of it."""

    cpu: str
    cores: int
    """That this process may use."""
    memory_gib: float
    system: str
    python: str


def this_machine() -> Machine:
    """Describe the machine that this runs on."""
    return Machine(
        cpu=cpu_model(),
        cores=available_cores(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
    )


def cpu_model() -> str:
    """What the processor is called, as far as the system says it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU with its driver, which is not measured."""
    return Path("/proc/driver/nvidia/version").exists()
