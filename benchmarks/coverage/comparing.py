"""How far a program is from eager detectron2 on all images, as a cell says it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.coverage.counterparts import counterparts
from benchmarks.coverage.record import DIFFERS, EXPORTS, SCRIPTING, Cell
from d2serve.export.programs.program import Program
from d2serve.export.proof.comparing.comparison import Difference, compare
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.image_files import Pixels
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.spec.bounds import Bounds

Ask = Callable[[Sequence[Pixels]], list[Outputs]]
"""Answers images, all in one call of the program where it takes several."""

_MISSES_SHOWN = 3


@dataclass(frozen=True)
class Reference:
    """Eager detectron2's answers, found once for all kinds."""

    images: list[Pixels]
    answers: list[Outputs]
    """To each image alone, as DefaultPredictor gives them."""
    batch: list[Pixels]
    batch_answers: list[Outputs]
    """To a batch of mixed sizes, as the model gives them."""

    @staticmethod
    def of(oracle: Oracle, images: Sequence[Pixels]) -> Reference:
        """Ask eager detectron2; the batch is of the first two images."""
        batch = list(images[:2])
        alone = [oracle.answer(image) for image in images]
        return Reference(list(images), alone, batch, oracle.answer_batch(batch))


def compared(kind: str, program: Program, ask: Ask, bounds: Bounds, reference: Reference) -> Cell:
    """Ask a loaded program and compare its answers with the reference."""
    pairs = list(zip(reference.answers, one_by_one(ask, reference.images)))
    labels = [f"image {number}" for number in range(1, len(pairs) + 1)]
    if kind == SCRIPTING:
        pairs += list(zip(reference.batch_answers, ask(reference.batch)))
        labels += [f"image {number} of the batch" for number in (1, 2)]
    differences = [
        compare(label, expected, got, bounds) for label, (expected, got) in zip(labels, pairs)
    ]
    missed = [difference for difference in differences if difference.misses]
    return Cell(
        verdict=DIFFERS if missed else EXPORTS,
        message=_told(missed),
        rewrites=program.rewrites,
        images=len(differences),
        detections=sum(difference.detections for difference in differences),
        within=sum(counterparts(*pair, bounds) for pair in pairs) if missed else None,
        box_px=max(each.box_px for each in differences),
        score=max(each.score for each in differences),
        keypoint_px=max(each.keypoint_px for each in differences),
        masks_differing=sum(each.masks_differing for each in differences),
        labels_differing=sum(each.labels_differing for each in differences),
        segments_differing=sum(each.segments_differing for each in differences),
    )


def one_by_one(ask: Ask, images: Sequence[Pixels]) -> list[Outputs]:
    """The answers to images that each go alone."""
    return [ask([image])[0] for image in images]


def _told(missed: list[Difference]) -> str:
    told = [f"{each.image} ({', '.join(each.misses)})" for each in missed[:_MISSES_SHOWN]]
    more = len(missed) - len(told)
    return "; ".join([*told, *([f"and on {more} more"] if more > 0 else [])])
