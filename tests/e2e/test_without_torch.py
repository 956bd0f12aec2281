"""Workers of programs that are not torch's never import torch, in TorchServe and though it is
installed.
"""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from d2serve.handlers.spec.runtimes import RUNTIMES
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import KINDS, Exporter, HeldOut
from tests.ways import skipped

MODEL = "mask_rcnn_fpn"


def mapped_libraries(pid: int) -> set[str]:
    return {Path(each.path).name for each in psutil.Process(pid).memory_maps() if each.path}


def has_torch(pid: int) -> bool:
    return any(name.startswith("libtorch") for name in mapped_libraries(pid))


@pytest.mark.server
def test_a_worker_maps_torch_only_where_the_program_needs_it(
    exported: Exporter, held_out: HeldOut
) -> None:
    kinds = tuple(kind for kind in KINDS if kind != "scripting" and not skipped(kind))
    archives = {kind: exported(MODEL, kind) for kind in kinds}
    one_each = {"default_workers_per_model": "1"}
    with TorchServeProcess(archives, overrides=one_each) as server:
        rss = {}
        for kind in kinds:
            server.http.predict(kind, held_out.images[0])
            (description,) = server.management.describe(kind)
            (worker,) = description.workers
            assert has_torch(worker.pid) == (kind == "tracing" or RUNTIMES[kind].needs_torch)
            rss[kind] = psutil.Process(worker.pid).memory_info().rss
    assert rss["onnxruntime"] < rss["tracing"]
    assert rss["openvino"] < rss["tracing"]
