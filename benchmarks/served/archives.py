"""The .mar of each side, as its own users would make it.

Ours are made by ``d2serve.export`` itself, the others by torch-model-archiver. An export checks
the program on images of many sizes, alone and in batches, which takes minutes at full size. A
program takes images of any size, so it is exported and checked at a small one, and then the
archive's spec gets the config's own resize back; agreement.py compares the answers at full size
before anything is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from detectron2.config import get_cfg

from benchmarks.served.model import SavedModel
from benchmarks.served.sides import EAGER, TORCHVISION
from benchmarks.shared.errors import BenchError
from d2serve.export.archive.staging import CONFIG_FILE, settings_for
from d2serve.export.errors import ExportError
from d2serve.export.pipeline import export
from d2serve.export.request import ExportRequest, Progress
from d2serve.handlers.spec.model_spec import SPEC_FILE, ModelSpec

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Order:
    """An export to be made, in a process of its own; so it holds nothing but plain values."""

    request: ExportRequest
    full_size_config: Path | None
    """Whose resize the archive's spec gets afterwards; None leaves it as exported."""


def fill(order: Order) -> Path:
    """Export by d2serve; the archive's path.

    Raises:
        BenchError: the export refused the model, with its reason.
    """
    try:
        result = export(order.request, Progress(lambda _step, _parts: None, lambda: None))
    except ExportError as error:
        raise BenchError(
            f"{order.request.name} was not exported, {type(error).__name__}: {error}"
        ) from error
    if order.full_size_config is not None:
        cfg = get_cfg()
        cfg.merge_from_file(str(order.full_size_config))
        edges = {"min_size_test": cfg.INPUT.MIN_SIZE_TEST, "max_size_test": cfg.INPUT.MAX_SIZE_TEST}
        _replace_spec(result.archive, replace(result.spec, **edges))
    return result.archive


def eager_archive(saved: SavedModel, store: Path, scratch: Path) -> Path:
    """Package the eager handler with torch-model-archiver, as its users do.

    Args:
        saved: the model.
        store: the folder for the archive.
        scratch: a folder for temporary files, which the archiver deletes freely.

    Raises:
        BenchError: torch-model-archiver failed.
    """
    handler = _HERE / "eager_handler.py"
    return _packaged(EAGER, handler, saved.weights, [saved.config], store, scratch)


def torchvision_archive(weights: Path, settings: Path, store: Path, scratch: Path) -> Path:
    """Package the handler that works as TorchServe's torchvision example; see eager_archive."""
    handler = _HERE / "torchvision_handler.py"
    return _packaged(TORCHVISION, handler, weights, [settings], store, scratch)


def _packaged(
    name: str, handler: Path, weights: Path, extra: Sequence[Path], store: Path, scratch: Path
) -> Path:
    settings = {k: v for k, v in settings_for(False, "cpu").items() if k != "batching"}
    settings_file = scratch / CONFIG_FILE
    settings_file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    arguments = {
        "--model-name": name,
        "--version": "1.0",
        "--handler": handler,
        "--serialized-file": weights,
        "--extra-files": ",".join(str(each) for each in extra),
        "--config-file": settings_file,
        "--export-path": store,
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "model_archiver.model_packaging"),
            *(str(part) for pair in arguments.items() for part in pair),
        ],
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise BenchError(f"torch-model-archiver failed on {name}: {done.stderr[-800:]}")
    return store / f"{name}.mar"


def with_settings(source: Path, settings: Mapping[str, str], target: Path) -> None:
    """Copy an archive, with more in its model-config.yaml."""
    with zipfile.ZipFile(source) as archive:
        text = archive.read(CONFIG_FILE).decode()
    _copied(source, {CONFIG_FILE: f"{text}\n{yaml.safe_dump(dict(settings))}"}, target)


def _replace_spec(archive: Path, spec: ModelSpec) -> None:
    changed = archive.with_suffix(".changed")
    _copied(archive, {SPEC_FILE: spec.to_json()}, changed)
    changed.replace(archive)


def _copied(source: Path, changes: Mapping[str, str], target: Path) -> None:
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        for entry in archive.infolist():
            content = changes.get(entry.filename, archive.read(entry))
            copy.writestr(entry, content, compress_type=entry.compress_type)
