"""The record of what kind of model it is, which the steps of an export hand on."""

from __future__ import annotations

from dataclasses import dataclass

from d2serve.handlers.spec.extras import Extra
from d2serve.handlers.spec.model_spec import PanopticMerge
from d2serve.handlers.spec.output_names import BOXES, XYXY_ABS


@dataclass(frozen=True)
class Family:
    """What kind of model it is, and what it answers."""

    name: str
    """For people, e.g. ``"Mask R-CNN FPN"``."""
    outputs: tuple[str, ...]
    """What the program answers for an image, in its order; ``extras`` come after them."""
    num_classes: int | None
    """Of instances; None where the model has none."""
    score_thresh: float | None = None
    nms_thresh: float | None = None
    detections_per_image: int | None = None
    """Negative is no limit (TEST.DETECTIONS_PER_IMAGE -1)."""
    box_mode: str = XYXY_ABS
    panoptic: PanopticMerge | None = None
    is_own: bool = False
    """Whether it is a model of the user's own. What that answers is known when it has run, so
    ``outputs`` are empty before ``reading.own_models.answers.observed``."""
    postprocessed: bool = False
    """Whether its own postprocessing belongs into the program, which then takes the height and
    width of the image as it was sent."""
    most_proposals: int | None = None
    """Of an R-CNN for an image; each can become an instance of every class."""

    extras: tuple[Extra, ...] = ()
    """What the model answers beyond detectron2's own fields, once it has run
    (programs/carrying.py)."""
    own_forward: bool = False
    """Whether the forward of a model of detectron2's classes has to run, since an equivalent loses
    extras."""

    makes_details: bool = False
    """Whether its masks and keypoints can be made of some of its instances alone
    (rewrites/details.py)."""

    @property
    def detail_classes(self) -> int | None:
        """Of how many classes a program is told where details are wanted; None where it makes all.

        Panoptic FPN merges the masks of all instances, and what is the model's own may need them.
        """
        needs_all = self.panoptic is not None or self.own_forward or self.extras
        return self.num_classes if self.makes_details and not needs_all else None

    @property
    def program_outputs(self) -> tuple[str, ...]:
        """Names of all that the program answers."""
        return (*self.outputs, *(each.output for each in self.extras))

    @property
    def has_instances(self) -> bool:
        """Whether it detects instances; otherwise it only labels pixels or proposes boxes."""
        return BOXES in self.outputs

    @property
    def most_detections(self) -> int | None:
        """How many instances or proposals it can answer for an image; None where not known."""
        limit = self.detections_per_image
        if limit is None or limit >= 0:
            return limit
        if self.most_proposals is None or self.num_classes is None:
            return None
        return self.most_proposals * self.num_classes
