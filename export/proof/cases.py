"""Chooses the images on which a program is verified: of many sizes, with and without detections."""

from __future__ import annotations

from dataclasses import dataclass

from d2serve.export.proof.reference import Reference, count_of
from d2serve.export.reading.image_files import Pixels
from d2serve.export.reading.samples import (
    base_of,
    sized_variants,
    with_one_detection,
    without_detection,
)
from d2serve.handlers.outputs.records import Float32

# Mixed sizes: the names are those of samples.sized_variants.
_BATCHES = (
    ("half",),
    ("sample", "turned"),
    ("half", "panorama", "sample", "icon", "turned"),
)


@dataclass(frozen=True)
class Case:
    """Images that go to the handler in one batch."""

    images: dict[str, Pixels]
    together: bool
    """Whether eager detectron2 gets them as one batch as well."""


def plan_cases(
    sample: Pixels, oracle: Reference, dynamic_batch: bool
) -> tuple[list[Case], tuple[str, ...]]:
    """Choose the images on which a program is verified, from a sample image.

    Args:
        sample: the sample image.
        oracle: eager detectron2.
        dynamic_batch: whether to verify batches too.

    Returns:
        The cases, and the counts of detections (zero, one) for which no image was found.
    """
    images = sized_variants(sample)
    base = base_of(sample)
    instances = oracle.answer(base).instances
    # Pixels always have labels, and a proposal network proposes always.
    special = {} if instances is None else _special(base, instances.boxes, oracle)
    found = {name: image for name, image in special.items() if image is not None}
    cases = [Case({name: image}, False) for name, image in {**images, **found}.items()]
    if dynamic_batch:
        batches = [{name: images[name] for name in names} for names in _BATCHES]
        if "zero" in found:
            batches.append({"zero": found["zero"], "half": images["half"]})
        cases += [Case(batch, True) for batch in batches]
    return cases, tuple(name for name in special if name not in found)


def _special(sample: Pixels, boxes: Float32, oracle: Reference) -> dict[str, Pixels | None]:
    """Images without a detection and with exactly one, or None for what was not found."""

    def count(image: Pixels) -> int:
        return count_of(oracle.answer(image))

    zero = without_detection(sample.shape[2], count)
    # A model that finds something in plain grey cannot be faded down to one instance.
    one = None if zero is None else with_one_detection(sample, boxes, count)
    return {"zero": zero, "one": one}
