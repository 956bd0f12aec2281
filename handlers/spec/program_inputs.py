"""What a program takes, by name: an image, and what else its kind needs."""

from __future__ import annotations

IMAGE_INPUT = "image"
"""Name of the first input of an ONNX or OpenVINO program."""
SIZE_INPUTS = ("height", "width")
"""Of a program that holds the model's own postprocessing: int64 scalars."""
DETAIL_INPUTS = ("detail_scores", "detail_most")
"""Of a program that makes masks and the like only where they are asked for: (classes,) float32, the
score that an instance of each class has to exceed, and an int64 scalar, of how many instances
at most, the best."""
BATCH_INPUTS = ("images", "sizes")
"""Of a program that takes batches, which takes nothing else: (images, channels, H, W) float32, each
image in the upper left with anything beyond it, and (images, 2) int64, the height and width of
each."""


def input_names(postprocessed: bool, in_detail: bool) -> tuple[str, ...]:
    """Names of what a program of one image takes, in its order."""
    return (IMAGE_INPUT, *SIZE_INPUTS * postprocessed, *DETAIL_INPUTS * in_detail)
