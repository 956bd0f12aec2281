"""What metrics, a request's id and its line in the log cost a request: ``make metrics-overhead``.

Two archives of the same program, which costs next to nothing, stand in one TorchServe: one as it is
exported, one whose handler has all of that cut off. For the latency, one client asks them in pairs,
with a pause after each, since TorchServe writes its log beside the next request. For what the pause
hides, the server's CPU time and the growth of its logs, they are asked in turns of many requests.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Callable

import httpx
import psutil
from PIL import Image

from benchmarks.shared.machine import this_machine
from d2serve.server.torchserve.process import TorchServeProcess
from tests.handlers.programs import write_archive
from tests.handlers.samples import saved
from tests.robustness.conftest import ONE_WORKER, pack

PAIRS, PAUSE_SECONDS = 1000, 0.01
TURNS, IN_A_TURN = 6, 100
WARM_UP = 50
MOST_MILLISECONDS = 1.0

_Ask = Callable[[str], bool]
_FULL, _BARE = "full", "bare"
_HANDLER = "detection_handler.py"
_BARE_HANDLER = """\
from d2serve.handlers.torchserve import detection_handler, reporting


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
        with TorchServeProcess(models, model_store=store) as server, _asking(server) as ask:
            for _ in range(WARM_UP):
                assert (ask(_FULL), ask(_BARE)) == (True, False)
            pairs = [_pair(ask, i) for i in range(PAIRS)]
            turns = {name: [0.0, 0.0] for name in (_FULL, _BARE)}
            for i in range(2 * TURNS):
                name = _BARE if i % 2 else _FULL
                cpu, grown = _turn(server, ask, name)
                turns[name][0] += cpu / TURNS
                turns[name][1] += grown / TURNS
    machine = this_machine()
    print(f"{machine.cores} cores of {machine.cpu}; {PAIRS} pairs, {TURNS} turns of {IN_A_TURN}")
    print("                 median (half of them) ms   ms of CPU   bytes of logs, each a request")
    for name, label in ((_FULL, "with"), (_BARE, "without")):
        cpu, grown = turns[name]
        latency = _spread([pair[name] for pair in pairs])
        print(f"{label:16} {latency:26} {cpu:9.2f} {grown:15,.0f}")
    added = [pair[_FULL] - pair[_BARE] for pair in pairs]
    cpu, grown = (turns[_FULL][i] - turns[_BARE][i] for i in range(2))
    print(f"{'difference':16} {_spread(added):26} {cpu:9.2f} {grown:15,.0f}")
    passed = median(added) < MOST_MILLISECONDS
    print(f"{'passed' if passed else 'failed'}: at most {MOST_MILLISECONDS:g} ms a request")
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


@contextmanager
def _asking(server: TorchServeProcess) -> Iterator[_Ask]:
    """Sends a request to a model; tells whether the reply had an id."""
    token = f"Bearer {server.inference_token}"
    headers = {"Authorization": token, "Content-Type": "application/octet-stream"}
    image = saved(Image.new("RGB", (30, 20), (51, 51, 51)), "PNG")
    with httpx.Client(base_url=server.inference_address, headers=headers, timeout=60) as client:

        def ask(name: str) -> bool:
            reply = client.post(f"/predictions/{name}", content=image).raise_for_status()
            return b'"request_id"' in reply.content

        yield ask


def _pair(ask: _Ask, number: int) -> dict[str, float]:
    """Milliseconds of a request to each, in changing order."""
    times = {}
    for name in (_FULL, _BARE) if number % 2 else (_BARE, _FULL):
        start = time.perf_counter()
        ask(name)
        times[name] = 1000 * (time.perf_counter() - start)
        time.sleep(PAUSE_SECONDS)
    return times


def _turn(server: TorchServeProcess, ask: _Ask, name: str) -> tuple[float, float]:
    """Milliseconds of the server's CPU, and bytes in its logs, for each of many requests."""
    before = _cpu_seconds(server), _log_bytes(server)
    for _ in range(IN_A_TURN):
        ask(name)
    time.sleep(0.5)  # the rest of what it logs
    cpu, grown = _cpu_seconds(server) - before[0], _log_bytes(server) - before[1]
    return 1000 * cpu / IN_A_TURN, grown / IN_A_TURN


def _cpu_seconds(server: TorchServeProcess) -> float:
    """Of Java and the workers."""
    processes = psutil.Process(server.pid).children(recursive=True)
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


def _log_bytes(server: TorchServeProcess) -> int:
    return sum(file.stat().st_size for file in server.log_directory.iterdir())


def _spread(values: Sequence[float]) -> str:
    low, middle, high = quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
