"""Pages of a mapped file go, and what the file says stays."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from d2serve.handlers.runtimes.mapped_files import forget_pages

CONTENT = bytes(range(256)) * 4096 * 8  # 8 MiB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's")


def resident(file: Path) -> int:
    """Bytes of a file's pages in this process."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    found = [next(x for x in lines if x[:4] == "Rss:") for line in lines if str(file) in line]
    return sum(int(line.split()[1]) for line in found) * 1024


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "model of mine.bin").write_bytes(CONTENT)
    return tmp_path / "model of mine.bin"


def test_pages_go_and_come_back(file: Path) -> None:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as all_:
        assert all_[:] == CONTENT
        assert resident(file) == len(CONTENT)
        forget_pages(file.with_name("another.bin"))
        assert resident(file) == len(CONTENT)
        forget_pages(file)
        assert resident(file) == 0
        assert all_[:] == CONTENT


def test_what_was_written_stays(file: Path) -> None:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY) as all_:
        all_[:4] = b"mine"
        forget_pages(file)
        assert all_[:4] == b"mine"
