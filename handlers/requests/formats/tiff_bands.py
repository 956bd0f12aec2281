"""Makes Pillow give all bands of a TIFF file of two or four, whatever the file says they mean.

Software for satellite images writes four bands as "grey, and three more", which Pillow does not
open, or as "RGB, and one more", of which Pillow drops the fourth. Declared as colours with
transparency, the same bytes come out as they are.
"""

from __future__ import annotations

import struct

from d2serve.handlers.errors import InvalidImage

_PHOTOMETRIC, _EXTRA_SAMPLES, _SAMPLES, _BITS, _PLANES = 262, 338, 277, 258, 284
_SHORT = 3
_ENTRY = 12
_GREY, _COLOURS = 1, 2
_MEANT = {2: _GREY, 4: _COLOURS}
"""By the number of bands, how they are declared."""
_TRANSPARENCY = 2  # of a kind by which nothing was multiplied


def with_all_bands(data: bytes) -> bytes:
    """A TIFF file whose bands Pillow gives as they are; any other file as it is.

    Args:
        data: an image file. Of several pictures in it the first counts.

    Raises:
        InvalidImage: its two bands lie one after the other, which Pillow mixes up.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return data
    try:
        entries = _entries(data, order)
        bands = _short(data, order, entries[_SAMPLES])
        declared = _short(data, order, entries[_PHOTOMETRIC])
        if bands not in _MEANT or declared not in (_GREY, _COLOURS):
            return data
        if not _are_bytes(data, order, entries[_BITS]):
            return data
        if bands == 2 and _PLANES in entries and _short(data, order, entries[_PLANES]) == 2:
            raise InvalidImage(
                "Got a TIFF of two bands that lie one after the other (planar), expected them "
                "interleaved. Save it so, or as PNG."
            )
        changed = bytearray(data)
        _set_short(changed, order, entries[_PHOTOMETRIC], _MEANT[bands])
        if _EXTRA_SAMPLES in entries:
            _set_short(changed, order, entries[_EXTRA_SAMPLES], _TRANSPARENCY)
    except (struct.error, KeyError):  # a file that is damaged is for the decoder to judge
        return data
    return bytes(changed)


def _entries(data: bytes, order: str) -> dict[int, int]:
    """Where the entries of the first directory begin, by tag."""
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    places = range(start + 2, start + 2 + _ENTRY * count, _ENTRY)
    return {struct.unpack_from(f"{order}H", data, place)[0]: place for place in places}


def _short(data: bytes, order: str, place: int) -> int:
    value: int = struct.unpack_from(f"{order}H", data, place + 8)[0]
    return value


def _set_short(data: bytearray, order: str, place: int, value: int) -> None:
    """Give an entry one value, which stands in the entry itself."""
    struct.pack_into(f"{order}HIHH", data, place + 2, _SHORT, 1, value, 0)


def _are_bytes(data: bytes, order: str, place: int) -> bool:
    """Whether each band has 8 bits; up to two numbers stand in the entry itself."""
    _kind, count, where = struct.unpack_from(f"{order}HII", data, place + 2)
    if count > 4:
        return False
    values = struct.unpack_from(f"{order}{count}H", data, where if count > 2 else place + 8)
    return set(values) == {8}
