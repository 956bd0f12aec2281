"""Says what a weights file is where it holds no weights, before a reader fails on it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO

from d2serve.export.reading.file_kinds import foreign_kind

_HEAD = 2048  # bytes
_MAX_HEADER = 100 << 20  # of safetensors, as its own library bounds it
# How torch begins a file that is no zip: the pickle of its magic number.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

ZIP, OLD_TORCH, PICKLE, SAFETENSORS = "zip", "old torch", "pickle", "safetensors"


def kind_of(file: BinaryIO, path: str) -> tuple[str | None, str | None]:
    """How to read a file, or what it is where it cannot be read.

    Args:
        file: open for reading; is left at its beginning.
        path: its name.

    Returns:
        One of the kinds above and None, or None and the end of a sentence about the file. Both are
        None where its bytes tell nothing.
    """
    head = file.read(_HEAD)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        problem = _problem_of_zip(file)
        file.seek(0)
        return (ZIP, None) if problem is None else (None, problem)
    if head.startswith(_OLD_TORCH):
        return OLD_TORCH, None
    if path.endswith(".safetensors") or _is_safetensors(head):
        return SAFETENSORS, None
    foreign = foreign_kind(head)
    if foreign is not None:
        return None, foreign
    if path.endswith(".onnx") or (head[:1] == b"\x08" and b"pytorch" in head[:64]):
        return None, "is an ONNX model, whose weights no longer have the names of detectron2's"
    if head[:1] == b"\x80":
        return PICKLE, None
    text = _text(head)
    if text is not None and not path.endswith(".pkl"):
        return None, _what_text(text, path)
    return None, None


def _problem_of_zip(file: BinaryIO) -> str | None:
    try:
        names = zipfile.ZipFile(file).namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return (
            "is a zip file without its end, so it was not copied or downloaded whole: fetch it "
            "again and compare the sizes"
        )
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        return "is a TorchScript program, which is what an export makes of weights"
    if any(name.startswith("MAR-INF/") for name in names):
        return "is an archive for TorchServe, which is what an export makes of weights"
    if names and all(name.endswith(".npy") for name in names):
        return "is a numpy archive (.npz). Save its arrays as torch does: torch.save(dict, file)"
    if not any(name.endswith("data.pkl") for name in names):
        return f"is a zip file of {', '.join(names[:3]) or 'nothing'}: unpack it first"
    return None


def _is_safetensors(head: bytes) -> bool:
    length = int.from_bytes(head[:8], "little")
    return len(head) > 9 and 2 <= length <= _MAX_HEADER and head[8:10] in (b'{"', b"{}")


def _text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8", "strict" if len(head) < _HEAD else "ignore")
    except UnicodeDecodeError:
        return None
    return text if all(each.isprintable() or each.isspace() for each in text) else None


def _what_text(text: str, path: str) -> str:
    first = text.strip().splitlines()[0]
    beside = Path(path).with_name(Path(first).name)
    if len(first) < 200 and beside.name != Path(path).name and beside.is_file():
        return f"is text and names {beside}, which is there: give that instead"
    shown = first if len(first) <= 60 else f"{first[:60]}..."
    return f"is text, which begins with {shown!r}"
