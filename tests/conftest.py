"""What several rooms' tests share: held-out images, and archives exported once a run."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# One thread on either side: eager detectron2's own answer depends on the number of threads, since
# sums are split differently (by 6e-5 px on mask_rcnn_dc5, and now and then by a pixel of a mask).
os.environ["OMP_NUM_THREADS"] = "1"
# rich keeps the width that it is first imported with; a process of pytest-xdist has one of 80.
os.environ.pop("COLUMNS", None)
os.environ.pop("LINES", None)

import pytest

from d2serve.client.results.prediction import Prediction
from d2serve.handlers.torchserve import memory
from tests import tiers
from tests.exports import ROOT, Exports, config_of, source_of
from tests.installation import refuse_a_stale_copy
from tests.ways import FAMILIES, KINDS, METHODS, MODELS, RUNTIMES, STUFF_MODELS

__all__ = [
    "FAMILIES",
    "KINDS",
    "METHODS",
    "MODELS",
    "ROOT",
    "RUNTIMES",
    "STUFF_MODELS",
    "config_of",
    "source_of",
]

Exporter = Exports


def pytest_configure(config: pytest.Config) -> None:
    refuse_a_stale_copy(ROOT)
    config.pluginmanager.register(tiers.Watch())


@pytest.hookimpl(tryfirst=True)  # before markers are selected by
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function):
            for marker in set(tiers.needs(item)):
                item.add_marker(marker)
    tiers.longest_files_first(items)


warnings.filterwarnings("ignore", message="pkg_resources is deprecated")


def said(prediction: Prediction) -> dict[str, Any]:
    """All of a reply but the id of its request."""
    return {name: value for name, value in prediction.raw.items() if name != "request_id"}


@dataclass(frozen=True)
class HeldOut:
    """Generated images that no model was trained on, in COCO format."""

    images: list[Path]
    annotations: Path


@pytest.fixture(scope="session", autouse=True)
def _in_the_repository_root() -> None:
    # The example configs name their weights from there.
    os.chdir(ROOT)


_KERNELS_KEPT = os.environ.get(memory.KERNELS_KEPT)
_DEFAULTS_OF_GLIBC = {memory.M_MMAP_MAX: 65536, memory.M_TRIM_THRESHOLD: 128 << 10}


@pytest.fixture(autouse=True)
def _no_worker() -> Iterator[None]:
    """A worker sets its process up for good. This one runs other tests, too."""
    yield
    if _KERNELS_KEPT is None and memory.KERNELS_KEPT in os.environ:
        del os.environ[memory.KERNELS_KEPT]
        for option, value in _DEFAULTS_OF_GLIBC.items():
            ctypes.CDLL(None).mallopt(option, value)


@pytest.fixture(scope="session")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    """200 held-out images of the shapes data set."""
    return _generated(tmp_path_factory.mktemp("heldout"), "heldout", 200)


@pytest.fixture(scope="session")
def stuff_held_out(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    """100 held-out images in which every pixel has a class; known to detectron2 by their names."""
    from examples.shapes.dataset import register_generated

    folder = tmp_path_factory.mktemp("stuff_heldout")
    generated = _generated(folder, "stuff_heldout", 100)
    register_generated("stuff_heldout", folder)
    return generated


def _generated(folder: Path, split: str, count: int) -> HeldOut:
    from examples.shapes.generate import generate_split

    annotations = generate_split(folder, split, count)
    return HeldOut(sorted((folder / "images").glob("*.jpg")), annotations)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """Exports an example model, once a run: ``exported(model, kind)`` is its .mar."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    # The folder of one of several test processes lies in that of the run.
    folder = tmp_path_factory.getbasetemp()
    store = (folder.parent if processes > 1 else folder) / "exported" / "store"
    store.mkdir(parents=True, exist_ok=True)
    exports = Exports(store, max(1, (os.cpu_count() or 1) // processes))
    yield exports
    exports.stop()
