"""Archives that must be refused, each made of a good one, by accident or on purpose."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

SPEC = "model_spec.json"


def rewritten(good: Path, bad: Path, change: Callable[[str, bytes], bytes]) -> zipfile.ZipFile:
    """A copy with changed entries, still open for more."""
    out = zipfile.ZipFile(bad, "w")
    with zipfile.ZipFile(good) as source:
        for entry in source.infolist():
            out.writestr(entry, change(entry.filename, source.read(entry)))
    return out


def program_of(archive: Path) -> str:
    with zipfile.ZipFile(archive) as opened:
        return str(json.loads(opened.read(SPEC))["program"])


def truncated(good: Path, bad: Path) -> None:
    content = good.read_bytes()
    bad.write_bytes(content[: len(content) * 2 // 3])


def bit_rot(good: Path, bad: Path) -> None:
    """One bit of the program, whose stored bytes are found by the name before them."""
    content = bytearray(good.read_bytes())
    content[content.index(program_of(good).encode()) + 4_000] ^= 1
    bad.write_bytes(content)


def zip_slip(good: Path, bad: Path) -> None:
    with rewritten(good, bad, lambda _name, content: content) as out:
        out.writestr("../../../outside.py", "print('outside')")


def other_program(good: Path, bad: Path) -> None:
    """Whole as a zip file, with a program that the spec does not know."""
    program = program_of(good)
    rewritten(good, bad, lambda n, c: c + b"changed" if n == program else c).close()


def changed_spec(good: Path, bad: Path, change: Callable[[dict[str, object]], None]) -> None:
    def edit(name: str, content: bytes) -> bytes:
        if name != SPEC:
            return content
        spec = json.loads(content)
        change(spec)
        return json.dumps(spec).encode()

    rewritten(good, bad, edit).close()


def newer_schema(good: Path, bad: Path) -> None:
    changed_spec(good, bad, lambda spec: spec.update(schema_version=99, something="new"))


def other_torch(good: Path, bad: Path) -> None:
    changed_spec(good, bad, lambda spec: spec.update(versions={"torch": "1.13.1+cpu"}))


BAD: dict[str, tuple[Callable[[Path, Path], None], tuple[str, ...]]] = {
    "truncated": (truncated, ("truncated or damaged", "export it again")),
    "bit_rot": (bit_rot, ("truncated or damaged", "export it again")),
    "zip_slip": (zip_slip, ("entries outside itself", "../../../outside.py", "Do not use it")),
    "other_program": (other_program, ("does not match its sha256", "export it again")),
    "newer_schema": (newer_schema, ("newer d2serve", "schema_version 99", "Upgrade")),
    "other_torch": (other_torch, ("exported with torch 1.13.1+cpu", "here is torch")),
}
"""How it is made, and what must be said of it."""
