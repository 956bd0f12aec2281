"""A server's reply to one image, as typed values: the one reading of the reply, version 1.

Parsing is strict about what the version promises and lenient about what it may add later: unknown
fields stay in ``Prediction.raw``. Coordinates are pixels of the image as sent (after its EXIF
orientation was applied), x to the right and y down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from d2serve.client.errors import InvalidInput, MalformedReply
from d2serve.client.results.detectron2_outputs import detectron2_outputs
from d2serve.client.results.extras import parse_extra, parse_extra_fields
from d2serve.client.results.handler_outputs import handler_outputs
from d2serve.client.results.instances import (
    Instance,
    Keypoint,
    Proposal,
    parse_instances,
    parse_proposals,
)
from d2serve.client.results.label_maps import PngLabelMap, RunLengthMask
from d2serve.client.results.polygon_masks import PolygonMask
from d2serve.client.results.reply_fields import natural, optional, optional_text, required
from d2serve.client.results.segments import (
    PanopticSeg,
    PanopticSegment,
    SemSeg,
    SemSegClass,
    parse_panoptic_seg,
    parse_sem_seg,
)
from d2serve.client.results.supervision_outputs import to_detections, to_key_points
from d2serve.client.results.tables import KINDS, Found, to_arrow, to_pandas
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.spec.extras import IMAGE, Extra

__all__ = [
    "Instance",
    "Keypoint",
    "PanopticSeg",
    "PanopticSegment",
    "PngLabelMap",
    "PolygonMask",
    "Prediction",
    "Proposal",
    "RunLengthMask",
    "SemSeg",
    "SemSegClass",
    "parse_prediction",
]

_Parts = tuple[
    tuple[int, int],
    "tuple[Instance, ...] | None",
    "tuple[Proposal, ...] | None",
    "SemSeg | None",
    "PanopticSeg | None",
]


@dataclass(frozen=True)
class Prediction:
    """The answer to one image. What the model does not predict is None, but for ``instances``."""

    model: str
    version: str
    height: int
    width: int
    has_instances: bool
    """Whether the model predicts instances at all; False for semantic models and proposals."""
    instances: tuple[Instance, ...]
    """By falling score; empty where there are none, and where the model predicts none."""
    proposals: tuple[Proposal, ...] | None
    sem_seg: SemSeg | None
    panoptic_seg: PanopticSeg | None
    raw: dict[str, Any] = field(repr=False, compare=False)
    """The reply as received, parsed from JSON."""
    converted: str | None = None
    """What the server did to the image's values, as ``"16-bit to 8-bit"``; None if nothing."""
    request_id: str | None = field(default=None, compare=False)
    """The server's name for this one request, as in its log."""
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What the model's author added for the image, by the key of detectron2's dict: a number, or an
    array of its own type. What there is for each instance is in its own ``extra``."""
    extra_fields: tuple[Extra, ...] = ()
    """Name, type and shape of all that is under ``extra``."""

    def to_detectron2(self, *, sem_seg_classes: int | None = None) -> dict[str, Any]:
        """The dictionary that detectron2's DefaultPredictor returns, on the CPU.

        What is in it, and where a reply does not say what DefaultPredictor would:

        - ``instances``: an ``Instances`` with ``pred_boxes`` (``Boxes`` or ``RotatedBoxes``),
          ``scores``, ``pred_classes``, and ``pred_masks`` and ``pred_keypoints`` where the model
          predicts them; of polygons ``pred_masks`` has the holes filled, and with ``masks="none"``
          there are none. A reply without any instance does not say of what it has none: it becomes
          (0, 4) ``Boxes``, and has ``pred_masks``, (0, height, width), for panoptic models alone.
        - ``proposals``: an ``Instances`` with ``proposal_boxes`` and ``objectness_logits``.
        - ``sem_seg``: a reply carries labels and no logits, so this is one-hot, float32 of shape
          (C, height, width): its ``argmax(dim=0)`` is that of detectron2's logits, its values are
          not. C is ``sem_seg_classes``; without it, the highest label in this image plus one.
        - What the model's author added: fields of ``instances``, and keys of this dictionary, as
          tensors of their own type, or detectron2's Boxes; with ``extra="none"`` there are none.
        - ``panoptic_seg``: the int32 map of segment ids, and ``segments_info`` with detectron2's
          keys.

        Raises:
            Detectron2Unavailable: detectron2 cannot be imported here.
            MalformedReply: a mask or label map cannot be unpacked.
            InvalidInput: ``sem_seg_classes`` is less than the labels need.
        """
        extras = self.extra_fields, self.extra
        return detectron2_outputs(*self._parts(), extras, sem_seg_classes)

    def to_supervision(self, kind: str | None = None) -> Any:
        """A ``supervision.Detections``, for its annotators, trackers and metrics.

        Instances have ``xyxy``, ``confidence``, ``class_id``, ``mask`` where the model predicts
        them and masks were asked for, and in ``data`` ``class_name`` and what the model's author
        added; a rotated box has the box around it, and its corners in ``data["xyxyxyxy"]``. Each
        class of ``sem_seg`` and each segment of ``panoptic_seg`` is a detection of its mask.

        Args:
            kind: of "instances", "proposals", "sem_seg" and "panoptic_seg", what is wanted; without
                it, the first of them that the model predicts.

        Raises:
            PackageUnavailable: supervision cannot be imported here.
            InvalidInput: the model predicts nothing of that kind.
            MalformedReply: a mask or label map cannot be unpacked.
        """
        return to_detections(self._found(kind), (self.height, self.width), self.extra_fields)

    def to_supervision_key_points(self) -> Any:
        """A ``supervision.KeyPoints`` of the instances; errors as of ``to_supervision``."""
        return to_key_points(self.instances)

    def to_pandas(self, kind: str | None = None) -> Any:
        """A ``pandas.DataFrame`` with a row for each instance; ``kind`` as in ``to_supervision``.

        Boxes are in x0, y0, x1, y1, rotated ones in cx, cy, w, h, angle; ``score``,
        ``category_id``, ``category_name``, ``segmentation`` and ``keypoints`` are as in the reply,
        what the model's author added is under ``extra.NAME``.

        Raises:
            PackageUnavailable: pandas cannot be imported here.
            InvalidInput: the model predicts nothing of that kind.
        """
        return to_pandas(self._found(kind), self.extra_fields)

    def to_arrow(self, kind: str | None = None) -> Any:
        """The same as a ``pyarrow.Table``."""
        return to_arrow(self._found(kind), self.extra_fields)

    def to_outputs(self) -> Outputs:
        """The same as the handlers' own record, with masks as run lengths.

        Raises:
            MalformedReply: a mask or label map cannot be unpacked.
        """
        return handler_outputs(*self._parts(), (self.extra_fields, self.extra))

    def _found(self, kind: str | None) -> Found:
        _, *found = self._parts()
        there: dict[str, Any] = {name: each for name, each in zip(KINDS, found) if each is not None}
        if kind is not None and kind not in there:
            raise InvalidInput(
                f"Got the kind {kind!r}, expected {' or '.join(there)}: the model {self.model} "
                "predicts nothing else."
            )
        wanted = kind or next(iter(there))
        return Found(wanted, **{wanted: there[wanted]})

    def _parts(self) -> _Parts:
        instances = self.instances if self.has_instances else None
        size = self.height, self.width
        return size, instances, self.proposals, self.sem_seg, self.panoptic_seg


def parse_prediction(
    reply: bytes | str | Mapping[str, Any], *, request_id: str | None = None
) -> Prediction:
    """Turn a reply of version 1 into a Prediction; anything else raises MalformedReply.

    ``request_id`` is that of the headers, for a reply that has none in it.
    """
    if isinstance(reply, (bytes, str)):
        try:
            loaded = orjson.loads(reply)
        except orjson.JSONDecodeError as error:
            raise MalformedReply(_not_version_1(f"it is not JSON ({error})", reply)) from error
    else:
        loaded = reply
    if not isinstance(loaded, Mapping):
        raise MalformedReply(_not_version_1(f"it is a JSON {type(loaded).__name__}", reply))
    try:
        return _prediction(dict(loaded), request_id)
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedReply(_not_version_1(str(error), reply)) from error


def _prediction(raw: dict[str, Any], request_id: str | None) -> Prediction:
    model, version = required(raw, "model", str), required(raw, "version", str)
    sides = required(raw, "image", dict)
    size = natural(sides, "height"), natural(sides, "width")
    if all(raw.get(kind) is None for kind in KINDS[1:]):
        required(raw, "instances", list)
    fields = optional(raw, "extra_fields", parse_extra_fields) or ()
    instances = optional(raw, "instances", lambda v: parse_instances(v, size, fields))
    return Prediction(
        model=model,
        version=version,
        height=size[0],
        width=size[1],
        has_instances=instances is not None,
        instances=instances or (),
        proposals=optional(raw, "proposals", parse_proposals),
        sem_seg=optional(raw, "sem_seg", lambda v: parse_sem_seg(v, size)),
        panoptic_seg=optional(
            raw, "panoptic_seg", lambda v: parse_panoptic_seg(v, size, len(instances or ()))
        ),
        raw=raw,
        converted=optional_text(sides, "converted"),
        request_id=optional_text(raw, "request_id") or request_id,
        extra=parse_extra(raw, fields, IMAGE),
        extra_fields=fields,
    )


def _not_version_1(what: str, reply: object) -> str:
    shown = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    return (
        f"The reply is not a d2serve response of version 1: {what}. Expected an object with "
        f"model, version, image and at least one of {', '.join(KINDS)}; is the model behind this "
        f"address a .mar made by d2serve? The reply begins: {shown[:200]!r}"
    )
