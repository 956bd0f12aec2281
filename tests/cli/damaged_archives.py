"""Files that are no whole archive, each made of a sound one in the way it happens."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.faults.bad_archives import SPEC, changed_spec, rewritten, truncated

MANIFEST = "MAR-INF/MANIFEST.json"


def without(entry: str) -> Callable[[Path, Path], None]:
    def make(good: Path, bad: Path) -> None:
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as out:
            for each in source.infolist():
                if each.filename != entry:
                    out.writestr(each, source.read(each))

    return make


def with_content(entry: str, content: bytes) -> Callable[[Path, Path], None]:
    def make(good: Path, bad: Path) -> None:
        rewritten(good, bad, lambda name, own: content if name == entry else own).close()

    return make


def with_spec(**changes: object) -> Callable[[Path, Path], None]:
    return lambda good, bad: changed_spec(good, bad, lambda spec: spec.update(changes))


def bit_rot(entry: str) -> Callable[[Path, Path], None]:
    """A bit of a stored file, which is found by its name in the header before it."""

    def make(good: Path, bad: Path) -> None:
        with zipfile.ZipFile(good) as source:
            info = source.getinfo(entry)
        content = bytearray(good.read_bytes())
        content[info.header_offset + 30 + len(entry) + info.file_size // 2] ^= 1
        bad.write_bytes(content)

    return make


def compressed_bit_rot(good: Path, bad: Path) -> None:
    """Of a deflated file, which zlib meets before any check sum is compared."""
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as out:
        for each in source.infolist():
            out.writestr(each.filename, source.read(each))
    bit_rot_at_start = bytearray(bad.read_bytes())
    with zipfile.ZipFile(bad) as packed:
        start = packed.getinfo(SPEC).header_offset + 30 + len(SPEC)
    bit_rot_at_start[start : start + 8] = b"\xff" * 8
    bad.write_bytes(bit_rot_at_start)


def name_that_is_no_text(good: Path, bad: Path) -> None:
    """Of the program, in the header before it, which says that it is UTF-8."""
    content = bytearray(good.read_bytes())
    with zipfile.ZipFile(good) as source:
        start = source.getinfo("model.pt").header_offset
    content[start + 7] |= 0x08
    content[start + 35] = 0xAC
    bad.write_bytes(content)


def folder(_good: Path, bad: Path) -> None:
    bad.mkdir()
    (bad / "photo.jpg").write_bytes(b"no archive")


DAMAGED: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "missing": (lambda _good, _bad: None, "there is no such file"),
    "empty": (lambda _good, bad: bad.touch(), "is no archive"),
    "a text file": (lambda _good, bad: bad.write_text("hello\n" * 99), "is no archive"),
    "a folder": (folder, "a folder, and no unpacked archive"),
    "truncated": (truncated, "truncated or damaged"),
    "another zip file": (without(MANIFEST), "no model archive"),
    "manifest not JSON": (with_content(MANIFEST, b"{"), "no model archive"),
    "manifest of another form": (with_content(MANIFEST, b'{"model": []}'), "no model archive"),
    "of another maker": (without(SPEC), "has no model_spec.json"),
    "spec not JSON": (with_content(SPEC, b"{'name'"), "is not JSON text"),
    "spec not text": (with_content(SPEC, b"\xff\xfe\x00"), "is not JSON text"),
    "spec a list": (with_content(SPEC, b"[1, 2]"), "holds a list"),
    "spec nested without end": (with_content(SPEC, b"[" * 99_999), "is not JSON text"),
    "spec without fields": (with_content(SPEC, b'{"schema_version": 3}'), "missing"),
    "older schema": (with_spec(schema_version=1), "schema_version 1"),
    "newer schema": (with_spec(schema_version=99), "made by a newer d2serve"),
    "no verification": (with_spec(verification={}), "lacks what `d2serve"),
    "odd verification": (with_spec(verification={"differences": [1]}), "lacks what `d2serve"),
    "half a character": (with_spec(family="\ud800"), "is not JSON text"),
    "bad check sum of the spec": (bit_rot(SPEC), "bad check sum of model_spec.json"),
    "bad check sum of the program": (bit_rot("model.pt"), "bad check sum of model.pt"),
    "a name that is no text": (name_that_is_no_text, "truncated or damaged"),
    "deflated and damaged": (compressed_bit_rot, "truncated or damaged"),
}
"""How it is made, and what has to be said of it."""
