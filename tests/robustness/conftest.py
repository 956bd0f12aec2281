"""One TorchServe, with the handler as archives have it and programs that cost next to nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from d2serve.export.archive.staging import staging
from d2serve.handlers.spec.model_spec import read_spec
from d2serve.server.torchserve.process import TorchServeProcess
from tests.handlers.programs import write_archive, write_semantic_archive
from tests.robustness.sending import Sender

BATCH = 8
LIMITS = {"max_image_pixels": 1200, "max_image_bytes": 5000, "max_detections": 3}
ONE_WORKER = {"minWorkers": 1, "maxWorkers": 1, "responseTimeout": 60}


def pack(source: Path, store: Path, name: str, settings: dict[str, object]) -> Path:
    """A .mar in a store, of a program and its spec."""
    spec = read_spec(source)
    with staging(name, "1.0") as stage:
        stage.describe([source / spec.program], spec, settings)
        return Path(shutil.copy(stage.pack(), store / f"{name}.mar"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServeProcess]:
    """Serves ``shapes``, in batches, ``ground``, which answers a label map, and ``limited``.

    ``wrong_limits.mar`` is in its store.
    """
    store = tmp_path_factory.mktemp("store")
    # The program answers as the class how many images it was given at once.
    names = ("none", "square", *(f"{i} at once" for i in range(2, BATCH + 1)))
    shapes = write_archive(tmp_path_factory.mktemp("shapes"), class_names=names)
    ground = write_semantic_archive(tmp_path_factory.mktemp("ground"))
    batches = {"batchSize": BATCH, "maxBatchDelay": 300, "batching": "always"}
    pack(shapes, store, "shapes", {**ONE_WORKER, **batches})
    large = {"max_input_pixels": 50_000_000}  # whose map is larger than a reply may be
    pack(ground, store, "ground", {**ONE_WORKER, "batchSize": 1, "limits": large})
    pack(shapes, store, "limited", {**ONE_WORKER, "batchSize": 1, "limits": LIMITS})
    pack(shapes, store, "wrong_limits", {**ONE_WORKER, "limits": {"max_image_pixels": "many"}})
    models = {name: f"{name}.mar" for name in ("shapes", "ground", "limited")}
    oip = {"TS_OPEN_INFERENCE_PROTOCOL": "oip"}  # else gRPC has no such calls
    with TorchServeProcess(models, model_store=store, environment=oip) as running:
        yield running


@pytest.fixture(scope="session")
def sender(server: TorchServeProcess) -> Sender:
    return Sender(server)
