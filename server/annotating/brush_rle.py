"""Label Studio's run lengths of a brush, which are not COCO's.

They are those of the npm package @thi.ng/rle-pack, of the bytes of an RGBA picture, row by row: the
number of bytes in 32 bits, the bits of a value less 1 in 5, the four widths of a run's length less
1 in 4 each; then each run as a bit that says whether it repeats one value, two bits that choose the
width, its length less 1, and its value. The bits are packed into bytes, the highest first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHANNELS = 4  # R, G, B and A, all the same
_VALUE_BITS = 8
_WIDTHS = (3, 4, 8, 16)
_REPEATED = "1"
_LONGEST = 1 << _WIDTHS[-1]


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """A mask of the whole image, (height, width), as the ``rle`` of a brush: bytes as numbers."""
    flat = mask.ravel()
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(borders, prepend=0, append=flat.size) * _CHANNELS
    bits = [f"{flat.size * _CHANNELS:032b}", f"{_VALUE_BITS - 1:05b}"]
    bits += [f"{width - 1:04b}" for width in _WIDTHS]
    is_set = bool(flat[0])
    for length in lengths.tolist():
        value = "1" * _VALUE_BITS if is_set else "0" * _VALUE_BITS
        # The rest of a long run has the widest length as well, as Label Studio writes it.
        choice = next((i for i, width in enumerate(_WIDTHS) if length <= 1 << width), -1)
        bits += [_run(choice, _LONGEST, value)] * ((length - 1) // _LONGEST)
        bits.append(_run(choice, (length - 1) % _LONGEST + 1, value))
        is_set = not is_set
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _run(choice: int, length: int, value: str) -> str:
    """The bits of a run of up to ``_LONGEST`` bytes, with the chosen one of ``_WIDTHS``."""
    return f"{_REPEATED}{choice % len(_WIDTHS):02b}{length - 1:0{_WIDTHS[choice]}b}{value}"
