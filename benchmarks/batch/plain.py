"""What people write without `d2serve batch`: a loop, and a pool of processes.

python -m benchmarks.batch.plain loop|pool ARCHIVE FOLDER OUTPUT PROCESSES
"""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

from d2serve.handlers.cores import available_cores
from d2serve.handlers.requests.request import Request
from d2serve.handlers.service import Service

_service: Service


def loop(archive: str, files: list[str], output: Path) -> None:
    """One process, with all cores for threads."""
    service = Service.open(archive, threads=available_cores())
    with output.open("wb") as lines:
        for file in files:
            lines.write(service.reply(Request(body=Path(file).read_bytes())).body + b"\n")


def pool(archive: str, files: list[str], output: Path, processes: int) -> None:
    """A process for each core, of a thread each: the fastest plain way."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, _open, (archive,)) as workers, output.open("wb") as lines:
        for reply in workers.imap_unordered(_answer, files, chunksize=8):
            lines.write(reply + b"\n")


def _open(archive: str) -> None:
    global _service
    _service = Service.open(archive, threads=1)


def _answer(file: str) -> bytes:
    return _service.reply(Request(body=Path(file).read_bytes())).body


if __name__ == "__main__":
    kind, archive, folder, output, processes = sys.argv[1:]
    found = [str(file) for file in sorted(Path(folder).iterdir())]
    if kind == "loop":
        loop(archive, found, Path(output))
    else:
        pool(archive, found, Path(output), int(processes))
