"""All that differs between eager detectron2's answer to an image and an archive's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from d2serve.export.proof.differences.finding import EXTRA, Finding, Region, ranked
from d2serve.export.proof.differences.instances import extra_apart, instance_findings
from d2serve.export.proof.differences.label_maps import label_findings
from d2serve.export.proof.differences.pairing import Pairing, Things, paired
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.replies.drawing import Legend
from d2serve.handlers.spec.bounds import Bounds


@dataclass(frozen=True)
class ImageFindings:
    """What differs in one image."""

    findings: tuple[Finding, ...]
    """What is out of bounds first, and of that the greatest first."""
    expected: int
    """Instances or proposals of eager; 0 where the model has neither."""
    got: int
    pairing: Pairing
    """Of them; empty where the model has neither."""

    def most(self, field: str) -> float:
        """The greatest difference of a field, in its own unit."""
        return max((each.amount for each in self.findings if each.field == field), default=0.0)


def find(expected: Outputs, got: Outputs, legend: Legend, bounds: Bounds) -> ImageFindings:
    """All that differs between two answers to an image.

    Args:
        expected: eager detectron2's.
        got: the archive's.
        legend: what classes and labels are called.
        bounds: within which they agree.
    """
    mine, theirs = Things.of(expected), Things.of(got)
    pairing = Pairing((), (), ())
    findings = [*label_findings(expected, got, legend, bounds), *_of_image(expected, got, bounds)]
    if mine is not None and theirs is not None:
        pairing = paired(mine, theirs)
        findings += instance_findings(expected, got, pairing, legend, bounds)
    return ImageFindings(tuple(ranked(findings)), _count(mine), _count(theirs), pairing)


def _count(things: Things | None) -> int:
    return 0 if things is None else len(things.scores)


def _of_image(expected: Outputs, got: Outputs, bounds: Bounds) -> Iterator[Finding]:
    whole: Region = (0.0, 0.0, float(expected.width), float(expected.height))
    for name, mine in expected.extra.items():
        if name in got.extra:
            most, share = extra_apart(mine, got.extra[name])
            if most > 0:
                text = f"{name} by {most:.3g}"
                yield Finding(EXTRA, text, most, share, most > bounds.score, whole)
