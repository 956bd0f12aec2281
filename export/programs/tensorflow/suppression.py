"""Non-maximum suppression: of boxes that overlap, the one of the highest score.

TensorFlow's operator takes one class of one image, and has the rules of ONNX Runtime's: what
overlaps more than the threshold goes, what scores no more than the other threshold does not come,
and of equal scores the first box comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from d2serve.export.programs.tensorflow.values import Array, Node, dims

_NO_THRESHOLD = np.float32(-np.inf)


def _suppression(node: Node) -> Array:
    """(kept, 3) int64: image, class and box of each, by falling score within a class."""
    boxes, scores = node.array(0), node.array(1)
    if node.get("center_point_box", 0):
        center, size = boxes[..., :2], boxes[..., 2:]
        boxes = tf.concat([center - size / 2.0, center + size / 2.0], -1)
    most = tf.reshape(node.array(2), []) if node.has(2) else np.int64(0)
    overlap = tf.reshape(node.array(3), []) if node.has(3) else np.float32(0)
    least = tf.reshape(node.array(4), []) if node.has(4) else _NO_THRESHOLD
    count = tf.cast(tf.minimum(most, dims(boxes)[1]), tf.int32)

    def kept(image: Array, label: Array) -> Array:
        found = tf.raw_ops.NonMaxSuppressionV3(
            boxes=boxes[image],
            scores=scores[image, label],
            max_output_size=count,
            iou_threshold=overlap,
            score_threshold=least,
        )
        chosen = tf.cast(found, tf.int64)
        same = tf.zeros_like(chosen)
        return tf.stack([same + image, same + label, chosen], axis=1)

    images, labels = scores.shape[0], scores.shape[1]
    if images == labels == 1:
        return kept(np.int64(0), np.int64(0))
    return _one_after_the_other(kept, dims(scores))


def _one_after_the_other(kept: Callable[[Array, Array], Array], sizes: Array) -> Array:
    labels = sizes[1]

    def more(index: Array, found: Array) -> tuple[Array, Array]:
        return index + 1, tf.concat([found, kept(index // labels, index % labels)], 0)

    _end, found = tf.while_loop(
        lambda index, _found: index < sizes[0] * labels,
        more,
        [tf.zeros([], tf.int64), tf.zeros([0, 3], tf.int64)],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, 3])],
    )
    return found


OPERATORS: dict[str, Callable[[Node], Any]] = {"NonMaxSuppression": _suppression}
