"""Why: every side is served from a .mar that its own users would make.

Ours are made by ``d2serve.export`` itself, the eager one by torch-model-archiver. An export proves
the program on images of many sizes, alone and in batches, which takes minutes at full size. A
program takes images of any size, so it is exported and proven at a small one, and then the
archive's spec gets the config's own resize back; agreement.py compares the answers at full size
before anything is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import yaml
from detectron2.config import get_cfg
from PIL import Image

from benchmarks.errors import BenchError
from benchmarks.model import SavedModel
from benchmarks.plan import EAGER
from d2serve.export.archive import CONFIG_FILE, settings_for
from d2serve.export.pipeline import ExportRequest, Progress, export
from d2serve.export.samples import Pixels
from d2serve.handlers.model_spec import SPEC_FILE, ModelSpec

_EAGER_HANDLER = Path(__file__).with_name("eager_handler.py")


def our_archive(
    method: str,
    saved: SavedModel,
    picture: Pixels,
    export_size: tuple[int, int],
    store: Path,
    progress: Progress,
) -> Path:
    """Export a model by d2serve.

    Args:
        method: ``"tracing"`` or ``"scripting"``, also the name of the model.
        saved: the model.
        picture: RGB; a small copy of it is the export's sample.
        export_size: short and longest edge of the images that the export uses.
        store: the folder for the archive.
        progress: where to tell how far it is.

    Raises:
        ExportError: the export refuses the model.
    """
    short, longest = export_size
    sample = store / "sample.png"
    Image.fromarray(picture).resize((longest, short)).save(sample)
    sizes = ["INPUT.MIN_SIZE_TEST", str(short), "INPUT.MAX_SIZE_TEST", str(longest)]
    request = ExportRequest(
        config_file=str(saved.config),
        method=method,
        name=method,
        overrides=["MODEL.WEIGHTS", str(saved.weights), *sizes],
        sample_image=sample,
        output=store,
    )
    result = export(request, progress)
    cfg = get_cfg()
    cfg.merge_from_file(str(saved.config))
    spec = replace(
        result.spec,
        min_size_test=cfg.INPUT.MIN_SIZE_TEST,
        max_size_test=cfg.INPUT.MAX_SIZE_TEST,
    )
    _replace_spec(result.archive, spec)
    return result.archive


def eager_archive(saved: SavedModel, store: Path, scratch: Path) -> Path:
    """Package the eager handler with torch-model-archiver, as its users do.

    Args:
        saved: the model.
        store: the folder for the archive.
        scratch: an empty folder for the archiver's temporary files, which it deletes freely.

    Raises:
        BenchError: torch-model-archiver failed.
    """
    settings = {k: v for k, v in settings_for(False, "cpu").items() if k != "batching"}
    settings_file = scratch / CONFIG_FILE
    settings_file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    arguments = {
        "--model-name": EAGER,
        "--version": "1.0",
        "--handler": _EAGER_HANDLER,
        "--serialized-file": saved.weights,
        "--extra-files": saved.config,
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
        raise BenchError(f"torch-model-archiver failed on the eager handler: {done.stderr[-800:]}")
    return store / f"{EAGER}.mar"


def _replace_spec(archive: Path, spec: ModelSpec) -> None:
    changed = archive.with_suffix(".changed")
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.infolist():
            content = spec.to_json() if entry.filename == SPEC_FILE else source.read(entry)
            target.writestr(entry, content, compress_type=entry.compress_type)
    changed.replace(archive)
