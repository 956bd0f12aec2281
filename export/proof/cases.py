"""Chooses the images on which a program is verified: of many sizes, with and without detections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from d2serve.export.proof.reference import Reference, count_of
from d2serve.export.reading.image_files import Pixels
from d2serve.export.reading.samples import (
    base_of,
    sized_variants,
    with_one_detection,
    without_detection,
)
from d2serve.handlers.outputs.records import Float32, Outputs
from d2serve.handlers.outputs.selection import EVERYTHING, Selection, select
from d2serve.handlers.requests.options import NONE
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.output_names import MASKS
from d2serve.handlers.spec.runtimes import RUNTIMES

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
    wanted: Mapping[str, Selection] = field(default_factory=dict)
    """By the name of an image of which not everything is asked for, what is."""

    def selections(self) -> list[Selection]:
        """What is asked for of each image."""
        return [self.wanted.get(name, EVERYTHING) for name in self.images]


def options_of(selection: Selection) -> dict[str, str]:
    """What a request says to ask for this much."""
    said = {"score_thresh": selection.score_thresh, "max_detections": selection.most}
    options = {name: repr(value) for name, value in said.items() if value is not None}
    return options if selection.masks else {**options, "masks": NONE}


def in_words(selection: Selection) -> str:
    """What is added to an image's name where not everything is asked for."""
    said = ", ".join(f"{name}={value}" for name, value in options_of(selection).items())
    return f" with {said}" if said else ""


def expected_of(case: Case, oracle: Reference) -> list[Outputs]:
    """The reference's answers, of what is asked for."""
    images = list(case.images.values())
    answers = oracle.answer_batch(images) if case.together else [*map(oracle.answer, images)]
    return [select(*each) for each in zip(answers, case.selections())]


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


def cases_in_detail(sample: Pixels, oracle: Reference, spec: ModelSpec) -> list[Case]:
    """Requests for some masks and keypoints and for none, of a program that makes what is wanted.

    Args:
        sample: as for ``plan_cases``.
        oracle: eager detectron2.
        spec: the program's.
    """
    if spec.detail_classes is None:
        return []
    images = sized_variants(sample)
    found = oracle.answer(images["half"]).instances
    scores = [] if found is None else found.scores.tolist()
    wishes = [Selection(masks=False)] if MASKS in spec.outputs else []
    gaps = [(a - b, index + 1) for index, (a, b) in enumerate(zip(scores, scores[1:]))]
    # Where scores are equal within a runtime's rounding, the best of them are not the same ones.
    if gaps and max(gaps)[0] > 2 * RUNTIMES[spec.runtime].bounds.score:
        most = max(gaps)[1]
        between = round((scores[most - 1] + scores[most]) / 2, 4)
        wishes += [Selection(most=most), Selection(score_thresh=between)]
    cases = [Case({"half": images["half"]}, False, {"half": each}) for each in wishes]
    if spec.dynamic_batch:
        batch = {name: images[name] for name in _BATCHES[-1]}
        cases.append(Case(batch, True, dict(zip(batch, wishes))))
    return cases


def _special(sample: Pixels, boxes: Float32, oracle: Reference) -> dict[str, Pixels | None]:
    """Images without a detection and with exactly one, or None for what was not found."""

    def count(image: Pixels) -> int:
        return count_of(oracle.answer(image))

    zero = without_detection(sample.shape[2], count)
    # A model that finds something in plain grey cannot be faded down to one instance.
    one = None if zero is None else with_one_detection(sample, boxes, count)
    return {"zero": zero, "one": one}
