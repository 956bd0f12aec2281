"""CVAT's auto-annotation function: what a model finds, as CVAT's shapes.

    cvat-cli task auto-annotate 137 --function-module d2serve.server.annotating.cvat_function \\
      --function-parameter archive=str:shapes.mar

cvat-cli, and CVAT's agents, import this module and call ``create``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import cvat_sdk.auto_annotation as cvataa
import numpy as np
from cvat_sdk import models
from cvat_sdk.masks import encode_mask
from PIL import Image

from d2serve.client.errors import ClientError, InvalidInput
from d2serve.server.annotating.asking import About, Model, open_model
from d2serve.server.annotating.regions import (
    Region,
    areas_of,
    at_least,
    instances_of,
    named_keypoints,
    rectangle,
)

RECTANGLE, POLYGON, MASK, SKELETON = "rectangle", "polygon", "mask", "skeleton"
_NOT_SHOWN = {
    RECTANGLE: "boxes only: masks and keypoints, if the model has any, are left out",
    POLYGON: "outlines: holes in a mask are filled",
    MASK: "masks without the model's own boxes",
    SKELETON: "keypoints without their scores: each counts as visible, whatever the model's "
    "confidence in it; boxes are left out",
}

_log = logging.getLogger(__name__)


def create(
    archive: str = "",
    address: str = "",
    model: str = "",
    version: str = "",
    key_file: str = "",
    shape: str = "",
    keypoints: str = "",
) -> CvatFunction:
    """The function for cvat-cli, whose parameters are text.

    Args:
        archive: a .mar file, answered in this process; or
        address: of a server, with
        model, version: its name there, and its version if not the default one,
        key_file: TorchServe's, if the server wants a token.
        shape: "rectangle", "polygon", "mask" or "skeleton"; without it, the one that says most.
        keypoints: their names with commas between, in the model's order: CVAT's sublabels.
    """
    settings: dict[str, Any] = {"key_file": key_file} if key_file else {}
    opened = open_model(
        archive or None,
        address=address or None,
        model=model or None,
        version=version or None,
        **settings,
    )
    names = [name.strip() for name in keypoints.split(",") if name.strip()]
    return CvatFunction(opened, shape or None, names)


class CvatFunction:
    """A detection function of CVAT."""

    def __init__(
        self, model: Model, shape: str | None = None, keypoint_names: Sequence[str] = ()
    ) -> None:
        """
        Args:
            model: who is asked.
            shape, keypoint_names: see ``create``.

        Raises:
            InvalidInput: the model cannot give this shape, or CVAT needs names for it.
        """
        about = model.about
        names = about.require_names()
        self._model = model
        self._shape = _shape(about, shape)
        self._ids = {name: number for number, name in enumerate(names)}
        self._keypoint_names = tuple(keypoint_names)
        if self._shape == SKELETON:
            _require_keypoint_names(about, self._keypoint_names)
        self.spec = cvataa.DetectionFunctionSpec(labels=[self._label(name) for name in names])
        _log.info("d2serve: CVAT gets %s.", _NOT_SHOWN[self._shape])

    def detect(
        self, context: cvataa.DetectionFunctionContext, image: Image.Image
    ) -> list[models.LabeledShapeRequest]:
        """What the model finds in one frame, as CVAT asks for it.

        Raises:
            InvalidInput: the model cannot answer the frame; the message names it.
        """
        needs_masks = self._shape in (MASK, POLYGON)
        try:
            prediction = self._model.predict(image, masks="rle" if needs_masks else "none")
            areas = needs_masks and self._model.about.has_areas
            found = areas_of(prediction) if areas else instances_of(prediction)
            return [
                shape
                for group, region in enumerate(at_least(context.conf_threshold, found), start=1)
                for shape in self._shapes(region, group, context.conv_mask_to_poly)
            ]
        except (ClientError, ValueError) as error:
            raise InvalidInput(f"{context.frame_name} cannot be annotated: {error}") from error

    def _label(self, name: str) -> models.PatchedLabelRequest:
        number = self._ids[name]
        if self._shape != SKELETON:
            return cvataa.label_spec(name, number, type=self._shape)
        points = [cvataa.keypoint_spec(each, i) for i, each in enumerate(self._keypoint_names)]
        return cvataa.skeleton_label_spec(name, number, points)

    def _shapes(
        self, region: Region, group: int, no_masks: bool
    ) -> Iterator[models.LabeledShapeRequest]:
        number = self._ids.get(region.label)
        if number is None:
            raise ValueError(f"it has a {region.label}, which the archive does not name")
        # Stuff has no score; left out, it would be the 1 of what a person drew.
        common: dict[str, Any] = {} if region.score is None else {"score": region.score}
        if self._shape == MASK and not no_masks:
            mask = region.mask()
            if mask.any():
                yield cvataa.mask(number, encode_mask(np.ascontiguousarray(mask)), **common)
        elif self._shape in (MASK, POLYGON):
            outlines = region.outlines()
            if len(outlines) > 1:
                common["group"] = group
            for outline in outlines:
                yield cvataa.polygon(number, [float(each) for each in outline], **common)
        elif region.instance is not None and self._shape == SKELETON:
            points = named_keypoints(region.instance, self._keypoint_names)
            elements = [cvataa.keypoint(i, [x, y]) for i, (_, x, y, _) in enumerate(points)]
            yield cvataa.skeleton(number, elements, **common)
        elif region.instance is not None:
            box = rectangle(region.instance)
            corners = [box.left, box.top, box.left + box.width, box.top + box.height]
            yield cvataa.rectangle(number, corners, rotation=box.clockwise, **common)


def _shape(about: About, wanted: str | None) -> str:
    possible = [
        shape
        for shape, needs in (
            (SKELETON, "keypoints" in about.outputs),
            (MASK, about.has_areas or "masks" in about.outputs),
            (POLYGON, about.has_areas or "masks" in about.outputs),
            (RECTANGLE, "boxes" in about.outputs),
        )
        if needs
    ]
    if wanted is not None and wanted not in possible:
        raise InvalidInput(
            f"Got the shape {wanted!r}, expected one that {about.name} can give: "
            f"{', '.join(possible)}."
        )
    return wanted or possible[0]


def _require_keypoint_names(about: About, names: Sequence[str]) -> None:
    if not names or len(set(names)) < len(names):
        raise InvalidInput(
            f"Got the keypoint names {', '.join(names) or '(none)'}, expected a different one for "
            f"each keypoint of {about.name}, since CVAT matches them with the sublabels of its "
            "skeletons and archives do not name them. Give them in the model's order: "
            "--function-parameter keypoints=str:nose,left_eye,…; or ask for boxes: "
            "--function-parameter shape=str:rectangle."
        )
