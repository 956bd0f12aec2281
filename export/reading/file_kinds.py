"""Says what a file is by its first bytes, where somebody gives one for another.

People give the page that a web site showed instead of the download, a pointer of git-lfs, the
weights where the config belongs. A parser's error says nothing of that.
"""

from __future__ import annotations

import re

_LFS = b"version https://git-lfs"
_HTML = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|\?xml|!--)", re.I)
_BY_HEAD = (
    (b"PK\x03\x04", "is a zip file, as torch writes checkpoints"),
    (b"\x89PNG", "is a PNG image"),
    (b"\xff\xd8\xff", "is a JPEG image"),
    (b"\x89HDF", "is an HDF5 file, as Keras writes"),
    (b"%PDF", "is a PDF"),
    (b"\x1f\x8b", "is compressed with gzip: unpack it"),
    (b"7z\xbc\xaf", "is a 7z archive: unpack it"),
    (b"Rar!", "is a RAR archive: unpack it"),
    (b"\x93NUMPY", "is an array of numpy (.npy)"),
    (b"BZh", "is compressed with bzip2: unpack it"),
    (b"\xfd7zXZ", "is compressed with xz: unpack it"),
    (b"\x7fELF", "is a program"),
)


def foreign_kind(content: bytes) -> str | None:
    """What a file is that is neither a config nor weights, as the end of a sentence, or None.

    Args:
        content: the file, or its first kilobyte.
    """
    if not content.strip():
        return "is empty" if not content else "holds nothing but blanks"
    if content.startswith(_LFS):
        return (
            "is a pointer of git-lfs, not the file itself: `git lfs pull` in its folder fetches "
            "that"
        )
    if _HTML.match(content):
        return (
            "is a web page, not the file: sites such as Google Drive and Dropbox show one before "
            "the download. Download it in a browser, or take the address of the download itself"
        )
    for head, kind in _BY_HEAD:
        if content.startswith(head):
            return kind
    if len(content) > 262 and content[257:262] == b"ustar":
        return "is a tar archive: unpack it"
    return None


def config_problem(content: bytes) -> str | None:
    """Why a file's bytes are no YAML config, as a sentence without its subject, or None."""
    kind = foreign_kind(content)
    if kind is None and content[:1] == b"\x80":
        kind = "is a pickle, as checkpoints are"
    if kind is None and b"\0" in content[:4096] and content[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        kind = "is binary"
    if kind is None:
        return None
    expected = "expected a YAML config, such as the config.yaml that training wrote"
    weights = kind.endswith(("checkpoints", "checkpoints are"))
    advice = " If these are the weights, give them with MODEL.WEIGHTS." if weights else ""
    return f"{kind}; {expected}.{advice}"
