"""The archive of a soak: the trained example model for OpenVINO, with Winograd's convolution where
its native code is installed, so that what that keeps is seen as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.served.archives import with_settings
from d2serve.kernels.library import ways
from examples.demo import CONFIG

_NAME = "soaked"


def exported(folder: Path) -> Path:
    """Export it into a folder; its path.

    Raises:
        CalledProcessError: it was not exported; the command has said why.
    """
    command = [
        *(str(Path(sys.executable).with_name("d2serve")), "export", "--config-file", str(CONFIG)),
        *("--format", "onnx", "--runtime", "openvino", "--export-method", "tracing"),
        *("--import", "examples.shapes.dataset", "--name", _NAME, "--output", str(folder)),
    ]
    subprocess.run(command, check=True)
    archive = folder / f"{_NAME}.mar"
    if not ways():
        return archive
    asked = folder / "asked.mar"
    with_settings(archive, {"convolution": "winograd"}, asked)
    return asked
