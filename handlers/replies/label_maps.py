"""Encodes a map of labels, which is as large as the image, as a small PNG or as RLEs.

All the classes' RLEs come from one pass down the columns of the map: where one label follows
another, a run of the first ends and one of the second starts.
"""

from __future__ import annotations

import base64
import io
import zlib

import numpy as np
from PIL import Image

from d2serve.handlers.outputs.records import Int32
from d2serve.handlers.outputs.rle import Int64, Rle, encode_transitions


def to_png(labels: Int32) -> str:
    """A greyscale PNG in base64, of 8 bits, or of 16 where a label is above 255.

    Args:
        labels: (H, W), none negative.
    """
    kind = np.uint8 if labels.max() <= 255 else np.uint16
    file = io.BytesIO()
    # Labels repeat themselves along a line and from one to the next. For that zlib's run-length
    # strategy is twice as fast as its default, and no larger.
    Image.fromarray(labels.astype(kind)).save(file, "PNG", compress_type=zlib.Z_RLE)
    return base64.b64encode(file.getbuffer()).decode("ascii")


def areas_of(labels: Int32) -> tuple[Int64, Int64]:
    """The labels that occur in a map, rising, and the number of pixels of each."""
    areas = np.bincount(labels.ravel())
    present = np.flatnonzero(areas)
    return present, areas[present]


def to_rles(labels: Int32) -> tuple[Rle, ...]:
    """A COCO RLE of the whole image for each label that occurs, by rising label.

    Args:
        labels: (H, W), none negative.
    """
    height, width = labels.shape
    down_the_columns = labels.T.ravel()
    changes = np.flatnonzero(down_the_columns[1:] != down_the_columns[:-1]) + 1
    starts = np.concatenate([np.zeros(1, np.int64), changes])
    ends = np.concatenate([changes, np.full(1, labels.size)])
    present, mask = np.unique(down_the_columns[starts], return_inverse=True)
    transitions = np.stack([starts, ends], axis=1) + (mask * (labels.size + 1))[:, None]
    transitions = transitions[np.argsort(mask, kind="stable")].ravel()
    return encode_transitions(transitions, len(present), height, width)
