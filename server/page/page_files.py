"""The files of the page, which travel with the package."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent / "files"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_FIRST = "index.html"


class PageFile(NamedTuple):
    """What is sent for one address."""

    content_type: str
    content: bytes


def page_files() -> dict[str, PageFile]:
    """Every file by its path on the server. There are no others: paths are looked up here alone,
    so that none leads out of the folder."""
    files = {
        f"/{file.name}": PageFile(_TYPES[file.suffix], file.read_bytes())
        for file in sorted(_FOLDER.iterdir())
        if file.suffix in _TYPES
    }
    return {"/": files.pop(f"/{_FIRST}"), **files}
