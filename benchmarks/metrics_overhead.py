"""What metrics, a request's id and its line in the log cost a request: ``make metrics-overhead``.

Two archives of the same program, which costs next to nothing, stand in one TorchServe: one as it is
exported, one whose handler has all of that cut off. One client asks them in turns, block by block,
since what TorchServe logs of a request is written after the reply, beside the next request.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import httpx
from PIL import Image

from benchmarks.figures import Figure, median_of
from benchmarks.machine import this_machine
from d2serve.client.server import TorchServeProcess
from tests.handlers.programs import write_archive
from tests.handlers.samples import saved
from tests.robustness.conftest import ONE_WORKER, pack

BLOCKS, IN_A_BLOCK = 40, 50
MOST_MILLISECONDS = 1.0

_FULL, _BARE = "full", "bare"
_HANDLER = "detection_handler.py"
_BARE_HANDLER = """\
from d2serve.handlers import detection_handler, reporting


class BareHandler(detection_handler.DetectionHandler):
    def initialize(self, context):
        reporting._log.disabled = True
        metrics, context.metrics = context.metrics, None
        super().initialize(context)
        context.metrics = metrics

    def handle(self, data, context):
        context.request_ids = None
        return super().handle(data, context)
"""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="d2s-") as folder:
        store = _store(Path(folder))
        models = {name: f"{name}.mar" for name in (_FULL, _BARE)}
        with TorchServeProcess(models, model_store=store) as server:
            times, logged = _measured(server)
    machine = this_machine()
    print(f"{machine.cores} cores of {machine.cpu}; {BLOCKS} blocks of {IN_A_BLOCK} requests each")
    medians = {name: [median(block) for block in blocks] for name, blocks in times.items()}
    for name, label in ((_FULL, "with"), (_BARE, "without")):
        print(f"{label:8} {_text(median_of(medians[name]))} ms, {logged[name]:,.0f} bytes of logs")
    difference = median_of([a - b for a, b in zip(medians[_FULL], medians[_BARE])])
    print(f"overhead {_text(difference)} ms a request, at most {MOST_MILLISECONDS:g}")
    passed = difference.value < MOST_MILLISECONDS
    print("passed" if passed else "failed")
    return 0 if passed else 1


def _store(folder: Path) -> Path:
    for name in ("store", "program"):
        (folder / name).mkdir()
    program, store = write_archive(folder / "program"), folder / "store"
    for name in (_FULL, _BARE):
        pack(program, store, name, {**ONE_WORKER, "batchSize": 1})
    bare = store / f"{_BARE}.mar"
    full = Path(shutil.move(bare, folder / "as-exported.zip"))
    with zipfile.ZipFile(full) as source, zipfile.ZipFile(bare, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            target.writestr(entry, _BARE_HANDLER if entry.filename == _HANDLER else content)
    return store


def _measured(server: TorchServeProcess) -> tuple[dict[str, list[list[float]]], dict[str, float]]:
    """Milliseconds of each block's requests, and bytes that a request adds to the logs."""
    token = f"Bearer {server.inference_token}"
    headers = {"Authorization": token, "Content-Type": "application/octet-stream"}
    image = saved(Image.new("RGB", (30, 20), (51, 51, 51)), "PNG")
    times: dict[str, list[list[float]]] = {_FULL: [], _BARE: []}
    grown = {_FULL: 0, _BARE: 0}
    with httpx.Client(base_url=server.inference_address, headers=headers, timeout=60) as client:

        def ask(name: str) -> bool:
            reply = client.post(f"/predictions/{name}", content=image).raise_for_status()
            return "request_id" in reply.json()

        assert (ask(_FULL), ask(_BARE)) == (True, False)
        for i in range(-1, BLOCKS):  # one more, to warm up
            for name in (_FULL, _BARE) if i % 2 else (_BARE, _FULL):
                before = _log_bytes(server)
                block = [_milliseconds(partial(ask, name)) for _ in range(IN_A_BLOCK)]
                time.sleep(0.2)  # the rest of what it logs
                if i >= 0:
                    times[name].append(block)
                    grown[name] += _log_bytes(server) - before
    return times, {name: total / BLOCKS / IN_A_BLOCK for name, total in grown.items()}


def _milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def _log_bytes(server: TorchServeProcess) -> int:
    return sum(file.stat().st_size for file in server.log_directory.iterdir())


def _text(figure: Figure) -> str:
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
