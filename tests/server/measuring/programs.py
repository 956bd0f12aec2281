"""A .mar with a program of ONNX Runtime that takes no time, to measure what is around it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from d2serve.handlers.spec.model_spec import SPEC_FILE
from d2serve.server.measuring.plan import Subject
from tests.handlers.runtimes.test_onnxruntime import write_program


def packed(folder: Path, name: str = "small") -> Path:
    """The .mar."""
    program = folder / f"{name}.program"
    program.mkdir()
    spec = write_program(program, name=name, min_size_test=96, max_size_test=128)
    manifest = {"model": {"modelName": name, "modelVersion": "1.0", "handler": "h.py"}}
    archive = folder / f"{name}.mar"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        file.writestr(SPEC_FILE, spec.to_json())
        file.write(program / "model.onnx", "model.onnx")
    return archive


def subject(folder: Path, name: str = "small") -> Subject:
    """As the command hands it over."""
    spec = write_program(folder, name=name, min_size_test=96, max_size_test=128)
    (folder / SPEC_FILE).write_text(spec.to_json())
    return Subject(f"{name}.mar", folder, spec)
