"""Archives of the example models, made once a run, on as many cores as there are.

Exports take most of the suite's time. Each runs in a process of its own with one thread, so that
the tests that need one archive can begin while the next is made. pytest-xdist's processes have one
store between them: who asks first exports, and the others wait at the lock.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from d2serve.handlers.spec.runtimes import RUNTIMES, TORCH_EXPORT, TRACING
from tests.ways import IN_BATCHES, METHODS, OF_GRAPHS, RUNTIME_OF

if TYPE_CHECKING:
    from d2serve.export.reading.config import ConfigSource

ROOT = Path(__file__).resolve().parent.parent
# Modules that register what a config names, beside the data sets.
_PROJECTS = {
    "point_rend": ("detectron2.projects.point_rend",),
    "deeplab_v3plus": ("detectron2.projects.deeplab",),
    "panoptic_deeplab": ("detectron2.projects.panoptic_deeplab",),
    "peaks": ("tests.export.own_models.peaks",),
    "peaks_of_its_own_ending": ("tests.export.own_models.peaks",),
    "mask_queries": ("tests.export.own_models.mask_queries",),
}


def config_of(model: str) -> Path:
    """The config of an example model, YAML or otherwise a LazyConfig, or of a model of our own."""
    own = ROOT / "tests" / "export" / "own_models" / f"{model}.yaml"
    if own.is_file():
        return own
    yaml = ROOT / "examples" / "shapes" / "models" / f"{model}.yaml"
    return yaml if yaml.is_file() else yaml.with_suffix(".py")


def source_of(model: str) -> ConfigSource:
    """The example model's config as the export takes it, with the data sets registered."""
    from d2serve.export.reading.config import ConfigSource

    imports = ("examples.shapes.dataset", *_PROJECTS.get(model, ()))
    return ConfigSource(str(config_of(model)), imports=imports)


class Exports:
    """``exports(model, kind)`` is the .mar of an example model, exported when first asked for."""

    def __init__(self, store: Path, processes: int) -> None:
        self.store = store
        # Not forked: torch's threads do not survive that.
        self._pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
        self._made: dict[tuple[str, str], Future[Path]] = {}

    def __call__(self, model: str, kind: str) -> Path:
        """The archive, waiting for it; raises what the export raised."""
        self.ahead((model, kind))
        return self._made[model, kind].result()

    def ahead(self, *wanted: tuple[str, str]) -> None:
        """Begin with what will be asked for, in this order."""
        for model, kind in wanted:
            if (model, kind) not in self._made:
                self._made[model, kind] = self._pool.submit(_export, model, kind, self.store)

    def stop(self) -> None:
        """Drop what nobody waits for any more."""
        self._pool.shutdown(cancel_futures=True)


def _export(model: str, kind: str, store: Path) -> Path:
    from d2serve.export.pipeline import export
    from d2serve.export.request import ExportRequest, Progress

    name, runtime = f"{model}_{kind}", RUNTIME_OF.get(kind, kind)
    method = TORCH_EXPORT if kind in OF_GRAPHS else TRACING
    with FileLock(store.with_name(f"{name}.lock")):
        archive = store / f"{name}.mar"
        if archive.is_file():  # whole: an export puts it there in one step
            return archive
        request = ExportRequest(
            source=source_of(model),
            method=kind if kind in METHODS else method,
            name=name,
            output=store,
            format=RUNTIMES[runtime].format,
            runtime=runtime,
            dynamic_batch=kind in IN_BATCHES,
        )
        return export(request, Progress(lambda _step, _parts: None, lambda: None)).archive
