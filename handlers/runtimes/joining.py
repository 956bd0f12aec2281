"""A call's images as one array, and its answers by image, for programs that take batches so.

The images are padded to the largest of them, as detectron2's ``ImageList`` does; what is beyond an
image and the backbone's own padding are the program's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from d2serve.handlers.runtimes.details import Details, inputs_of
from d2serve.handlers.runtimes.raw_outputs import AnyArray, Float32, RawOutputs, Size
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.output_names import IMAGE_OF_INSTANCE, SEM_SEG, answers_of_batches


def answers_of(spec: ModelSpec) -> tuple[str, ...]:
    """Names of what a program answers, in its order."""
    return answers_of_batches(spec.outputs) if spec.joins_images else spec.outputs


def answered(
    spec: ModelSpec,
    images: Sequence[Float32],
    sizes: Sequence[Size],
    details: Sequence[Details],
    ask: Callable[[tuple[AnyArray, ...]], RawOutputs],
) -> list[RawOutputs]:
    """Each image's outputs: of one call for all where the program joins them, else of one for each.

    Args:
        spec: the program's.
        images, sizes, details: as ``Runtime.run`` takes them.
        ask: calls the program with its inputs, in the order of ``spec.inputs``.
    """
    if spec.joins_images:
        return separated(ask(joined(images)), len(images))
    return [ask(each) for each in inputs_of(spec, images, sizes, details)]


def joined(images: Sequence[Float32]) -> tuple[AnyArray, AnyArray]:
    """The two inputs of ``BATCH_INPUTS``, of images (channels, H, W) of any sizes."""
    sizes = np.array([image.shape[1:] for image in images], np.int64)
    height, width = sizes.max(axis=0)
    batch = np.zeros((len(images), images[0].shape[0], height, width), np.float32)
    for place, image in zip(batch, images):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch, sizes


def separated(answers: RawOutputs, count: int) -> list[RawOutputs]:
    """Each image's part of the answers to so many images."""
    owners = answers.get(IMAGE_OF_INSTANCE)
    return [
        {
            name: values[image] if name == SEM_SEG else values[owners == image]
            for name, values in answers.items()
            if name != IMAGE_OF_INSTANCE
        }
        for image in range(count)
    ]
