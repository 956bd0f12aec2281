"""Names files of formats that are not served, by their first bytes, with what to do.

People send what they have: a phone's HEIC, a camera's raw file, a scan in a PDF, a path. A message
that says what it is saves them the search. ``FOREIGN`` is the one table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Union

_TO_JPEG = "Convert it to JPEG"
_DEVELOP = "Develop it with the camera's software, darktable or RawTherapee and send that as JPEG"
_WINDOW = "Apply its window, and send the picture as PNG or TIFF of 8 or 16 bits"
_SCALE = "Scale its values to 8 or 16 bits, and send them as PNG or TIFF"
_RENDER = "Render it, and send the picture as PNG"
_FRAME = "Send single frames, as JPEG"
_UNPACK = "Unpack it, and send one image"
_AS_IMAGE = "Send the bytes of an image file"

Start = Union[tuple[int, bytes], "re.Pattern[bytes]"]


@dataclass(frozen=True)
class Foreign:
    """A format that is not served."""

    name: str
    """With its article, as a message has it."""
    advice: str
    """What to do, a sentence without its full stop."""
    starts: tuple[Start, ...]
    """Bytes at a place of the file, or a pattern at its start, of which one is there."""


def _boxed(*brands: bytes) -> re.Pattern[bytes]:
    """The first box of the formats made of ISO's boxes, which says the brand."""
    return re.compile(rb"[\0-\xff]{4}ftyp(?:" + b"|".join(map(re.escape, brands)) + b")")


def _text(pattern: bytes) -> re.Pattern[bytes]:
    """Text in any case, behind a byte order mark and white space."""
    return re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:" + pattern + b")", re.IGNORECASE)


def _raw(name: str, *starts: Start) -> Foreign:
    return Foreign(f"a camera's raw photo ({name})", _DEVELOP, starts)


RAW_PHOTO = _raw("a TIFF such as DNG, NEF, CR2 or ARW, whose first picture is a thumbnail")
"""Of which the bytes alone do not tell; see ``TiffPage.is_raw_photo``."""

AVIF = Foreign("an AVIF file", _TO_JPEG, (re.compile(rb"[\0-\xff]{4}ftyp[\0-\xff]{0,52}?avi[fs]"),))
"""Not served where Pillow lacks its decoder."""

FOREIGN = (
    AVIF,
    Foreign(
        "a HEIC photo (HEIF)",
        f"{_TO_JPEG} (an iPhone takes JPEG with the camera's format 'Most Compatible')",
        (_boxed(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),),
    ),
    _raw("CR3", _boxed(b"crx ")),
    _raw("CRW", (6, b"HEAPCCDR")),
    _raw("RAF", (0, b"FUJIFILMCCD-RAW")),
    _raw("ORF", (0, b"IIRO"), (0, b"IIRS"), (0, b"MMOR")),
    _raw("RW2", (0, b"IIU\0")),
    _raw("X3F", (0, b"FOVb")),
    _raw("MRW", (0, b"\0MRM")),
    Foreign("a JPEG 2000 file", _TO_JPEG, ((4, b"jP  \r\n\x87\n"), (0, b"\xff\x4f\xff\x51"))),
    Foreign("a JPEG XL file", _TO_JPEG, ((4, b"JXL \r\n\x87\n"), (0, b"\xff\x0a"))),
    Foreign("a JPEG XR file", _TO_JPEG, ((0, b"II\xbc\x01"),)),
    Foreign("a DICOM file", _WINDOW, ((128, b"DICM"),)),
    Foreign("a NIfTI volume", _WINDOW, ((344, b"n+1\0"), (344, b"ni1\0"), (4, b"n+2\0\r\n\x1a\n"))),
    Foreign("a FITS file", _SCALE, ((0, b"SIMPLE  ="),)),
    Foreign("an OpenEXR file", _SCALE, ((0, b"\x76\x2f\x31\x01"),)),
    Foreign("a Radiance HDR file", _SCALE, ((0, b"#?RADIANCE"), (0, b"#?RGBE"))),
    Foreign("a NumPy array", "Send it as PNG or TIFF of 8 or 16 bits", ((0, b"\x93NUMPY"),)),
    Foreign("an HDF5 file", _SCALE, ((0, b"\x89HDF\r\n\x1a\n"),)),
    Foreign("a Photoshop file (PSD)", _TO_JPEG, ((0, b"8BPS"),)),
    Foreign("a GIMP file (XCF)", _TO_JPEG, ((0, b"gimp xcf"),)),
    Foreign("an icon (ICO)", _TO_JPEG, ((0, b"\0\0\1\0"), (0, b"\0\0\2\0"), (0, b"icns"))),
    Foreign("a netpbm file (PBM, PGM, PPM)", _TO_JPEG, (re.compile(rb"P[1-7]\s"),)),
    Foreign("a DDS texture", _TO_JPEG, ((0, b"DDS "),)),
    Foreign("a QOI file", _TO_JPEG, ((0, b"qoif"),)),
    Foreign("a PDF document", _RENDER, ((0, b"%PDF"),)),
    Foreign("a PostScript file", _RENDER, ((0, b"%!PS"), (0, b"\xc5\xd0\xd3\xc6"))),
    Foreign(
        "an SVG drawing",
        _RENDER,
        (_text(rb"<svg\b|(?:<\?xml|<!--|<!doctype svg)[^\0]{0,2000}<svg\b"),),
    ),
    Foreign("a video (MP4, MOV)", _FRAME, ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"))),
    Foreign("a video (AVI)", _FRAME, (re.compile(rb"RIFF[\0-\xff]{4}AVI "),)),
    Foreign("a video (MKV, WebM)", _FRAME, ((0, b"\x1a\x45\xdf\xa3"),)),
    Foreign("a video (MPEG)", _FRAME, ((0, b"\0\0\1\xba"), (0, b"\0\0\1\xb3"))),
    Foreign(
        "a video (FLV, WMV, Ogg)", _FRAME, ((0, b"FLV\1"), (0, b"\x30\x26\xb2\x75"), (0, b"OggS"))
    ),
    Foreign(
        "a gzip file",
        "Send it with the header 'Content-Encoding: gzip', or unpack it",
        ((0, b"\x1f\x8b"),),
    ),
    Foreign("a ZIP archive", _UNPACK, ((0, b"PK\3\4"), (0, b"PK\5\6"))),
    Foreign(
        "an archive (7z, RAR, bzip2, xz, Zstandard, tar)",
        _UNPACK,
        (
            *((0, start) for start in (b"7z\xbc\xaf\x27\x1c", b"Rar!", b"BZh", b"\xfd7zXZ\0")),
            *((0, b"\x28\xb5\x2f\xfd"), (257, b"ustar")),
        ),
    ),
    Foreign(
        "a page of HTML",
        "It is often an error or login page in place of the image: look at what was downloaded",
        (_text(rb"<!doctype html|<html|<head|<body"),),
    ),
    Foreign("XML", _AS_IMAGE, (_text(rb"<\?xml"),)),
    Foreign(
        "text in base64",
        'Send the bytes of the file itself, or base64 in JSON: {"image": "..."} with the header '
        "'Content-Type: application/json'",
        (
            _text(rb"data:"),
            re.compile(rb"/9j/|iVBORw0KGgo|R0lGOD|UklGR|SUkqA|TU0AK|Qk[0-9A-Za-z+/]{40}"),
        ),
    ),
    Foreign(
        "JSON",
        'Send it with the header \'Content-Type: application/json\', as {"image": "<base64>"}',
        (_text(rb"[{\[]\s*[\"{\[\]}]"), _text(rb'"[A-Za-z0-9+/_=:;,-]+"?')),
    ),
    Foreign(
        "an address or a path",
        "Send the bytes of the file: nothing is fetched for a client",
        (
            _text(
                rb"(?:https?|file|s3|gs|ftp)://|(?:[a-z]:|~|\.{0,2})[\\/][\w .\\/-]+\.\w{2,4}\s*\Z"
            ),
        ),
    ),
)
"""In the order in which they are looked for."""


def foreign_format(data: bytes) -> Foreign | None:
    """The format of a file, where it is in the table.

    Args:
        data: a file of no served format.
    """
    head = data[:4096]
    for each in FOREIGN:
        for start in each.starts:
            if isinstance(start, tuple):
                place, expected = start
                if head.startswith(expected, place):
                    return each
            elif start.match(head):
                return each
    return None
