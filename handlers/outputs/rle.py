"""COCO's compressed run lengths, of many masks at once, and back.

They are written straight from the places where the masks' values change: a call of pycocotools for
each mask costs more than that.

A mask is read down its columns. Its run lengths, the first of zeros, are written as in
``rleToString`` (cocoapi/common/maskApi.c): each as its difference to the one before the last, in
groups of five bits with a sixth that says whether more follow, as ASCII characters from 48 on.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


class Rle(TypedDict):
    """COCO's compressed run-length encoding."""

    size: list[int]
    """[height, width] of the image."""
    counts: str


def encode_transitions(transitions: Int64, masks: int, height: int, width: int) -> tuple[Rle, ...]:
    """COCO RLEs of masks given by the places at which their values change.

    Args:
        transitions: (T,) in rising order, each ``mask * (height * width + 1) + x * height + y``,
            the first pixel of the other value. A mask starts with zero. Two of the same place undo
            each other. The place ``height * width`` after the last pixel is permitted.
        masks: how many there are.
        height, width: of the image, in pixels.
    """
    counts, starts = _run_lengths(transitions, masks, height * width)
    differences = counts.copy()
    differences[2:] -= counts[:-2]
    # Not so for the first three of each mask. What this reaches beyond a mask of fewer counts are
    # the first three of those that follow.
    firsts = (starts[:, None] + np.arange(3)).ravel()
    firsts = firsts[firsts < len(counts)]
    differences[firsts] = counts[firsts]
    text, places = _write(differences)
    begins = places[starts].tolist()
    return tuple(
        {"size": [height, width], "counts": text[start:end]}
        for start, end in zip(begins, [*begins[1:], len(text)])
    )


def encode_whole(masks: npt.NDArray[np.bool_]) -> tuple[Rle, ...]:
    """COCO RLEs of masks of the whole image.

    Args:
        masks: (N, H, W).
    """
    count, height, width = masks.shape
    # Down the columns, between two pixels that belong to no mask.
    lines = np.zeros((count, height * width + 2), np.bool_)
    lines[:, 1:-1] = masks.transpose(0, 2, 1).reshape(count, height * width)
    changes = np.flatnonzero(lines[:, 1:] != lines[:, :-1])
    return encode_transitions(changes, count, height, width)


def run_lengths(rle: Rle) -> Int64:
    """Lengths of the runs of an RLE, down the columns of the image; the first is of zeros."""
    groups = np.frombuffer(rle["counts"].encode("ascii"), np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(groups & 32 == 0)
    first = np.concatenate([np.zeros(1, np.int64), last[:-1] + 1])
    sizes = last - first + 1
    shifts = 5 * (np.arange(len(groups)) - np.repeat(first, sizes))
    lengths: Int64 = np.add.reduceat((groups & 31) << shifts, first)
    lengths -= (groups[last] & 16) << (5 * sizes - 4)  # the sign
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths


def decode_mask(rle: Rle) -> tuple[npt.NDArray[np.bool_], int]:
    """The mask of an RLE: (H, W) of the columns that it reaches, and the first of them."""
    height = rle["size"][0]
    ends = np.cumsum(run_lengths(rle)) if rle["counts"] else np.zeros(0, np.int64)
    starts, ends = ends[: len(ends) - 1 : 2], ends[1::2]
    if not len(ends) or starts[0] == ends[-1]:
        return np.zeros((height, 0), np.bool_), 0
    left, right = starts[0] // height, (ends[-1] - 1) // height + 1
    changes = np.zeros((right - left) * height + 1, np.int8)
    np.add.at(changes, starts - left * height, 1)
    np.add.at(changes, ends - left * height, -1)
    mask = np.cumsum(changes[:-1], dtype=np.int8).view(np.bool_)
    return mask.reshape(-1, height).T, int(left)


def _run_lengths(transitions: Int64, masks: int, pixels: int) -> tuple[Int64, Int64]:
    """Run lengths of all masks in a row, and where those of each mask start."""
    transitions = _without_pairs(transitions)
    after = np.arange(1, masks + 1) * (pixels + 1)
    # A run that lasts to the end of the image ends there anyway.
    final = np.searchsorted(transitions, after - 1)
    final = final[final < len(transitions)]
    transitions = np.delete(transitions, final[transitions[final] % (pixels + 1) == pixels])
    ends = np.searchsorted(transitions, after)
    owners = np.repeat(np.arange(masks), np.diff(ends, prepend=0))
    # With one mask right after the other, the end of each run is the start of the next.
    borders = np.insert(transitions - owners, ends, np.arange(1, masks + 1) * pixels)
    starts = np.concatenate([np.zeros(1, np.int64), ends + np.arange(1, masks + 1)])[:masks]
    return np.diff(borders, prepend=0), starts


def _without_pairs(transitions: Int64) -> Int64:
    """Of equal transitions one where their number is odd, otherwise none."""
    first = np.ones(len(transitions), np.bool_)
    np.not_equal(transitions[1:], transitions[:-1], out=first[1:])
    if first.all():
        return transitions
    starts = np.flatnonzero(first)
    odd = np.diff(starts, append=len(transitions)) & 1 == 1
    kept: Int64 = transitions[starts[odd]]
    return kept


def _write(numbers: Int64) -> tuple[str, Int64]:
    """Signed numbers as COCO's characters, and where those of each number start."""
    magnitudes = numbers ^ (numbers >> 63)
    sizes = np.ones(len(numbers), np.int8)
    bound = 16  # five bits, one of them the sign
    while (longer := magnitudes >= bound).any():
        sizes += longer
        bound <<= 5
    ends = np.cumsum(sizes, dtype=np.int64)
    places = where = ends - sizes
    characters = np.empty(sizes.sum(dtype=np.int64), np.uint8)
    while len(numbers):
        sizes -= 1
        more = sizes > 0
        # A byte keeps more than the five bits that are wanted.
        five_bits = numbers.astype(np.uint8) & 31
        characters[where] = five_bits + 48 + (more.view(np.uint8) << 5)
        rest = np.flatnonzero(more)
        numbers, sizes, where = numbers[rest] >> 5, sizes[rest], where[rest] + 1
    return characters.tobytes().decode("ascii"), places
