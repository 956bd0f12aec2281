"""``model_spec.json``: every number that shapes an answer, on which exporter and server agree.

It is written by ``d2serve.export``, travels in the .mar and is the only source of settings at serve
time: no value is guessed twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from d2serve.handlers.errors import SpecError
from d2serve.handlers.spec.extras import Extra, problems_of_extras, without_extras
from d2serve.handlers.spec.field_types import wrong_types
from d2serve.handlers.spec.image_form import ImageForm
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, RequestLimits, problems_of
from d2serve.handlers.spec.older_schemas import upgraded
from d2serve.handlers.spec.output_names import XYWHA_ABS, XYXY_ABS
from d2serve.handlers.spec.output_sets import problems_of_details, problems_of_outputs
from d2serve.handlers.spec.program_inputs import BATCH_INPUTS, input_names
from d2serve.handlers.spec.provenance import Provenance
from d2serve.handlers.spec.runtimes import METHODS, RUNTIMES, precisions
from d2serve.handlers.spec.sixteen_bit import OPENCV
from d2serve.handlers.zip_directory import is_outside

SCHEMA_VERSION = 5
READABLE_SCHEMAS = (2, 3, 4, SCHEMA_VERSION)
SPEC_FILE = "model_spec.json"
PICTURE_FILE = "model.svg"
"""The picture of the network, which no server reads."""


@dataclass(frozen=True)
class PanopticMerge:
    """Thresholds by which instances and sem_seg become one map (MODEL.PANOPTIC_FPN.COMBINE)."""

    overlap_thresh: float
    """An instance is left out when more than this part of its mask is taken already."""
    stuff_area_limit: int
    """Stuff that covers fewer pixels than this is left out."""
    instances_confidence_thresh: float
    """Instances of lower scores are left out."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything the server has to know of a program, in detectron2's terms.

    Sizes are in pixels; ``outputs`` are the names of the program's outputs, in its order.
    """

    name: str
    family: str
    """What detectron2 builds, for people to read, e.g. ``"Mask R-CNN FPN"``."""
    method: str
    """``"tracing"`` or ``"scripting"``."""
    runtime: str
    """By name; what is true of it stands in handlers/spec/runtimes.py."""
    precision: str
    """``"fp32"``, or, by name and at the price in ``accuracy``, ``"bf16"`` or ``"int8"``."""
    program: str
    """Name of the program's main file, beside this spec."""
    sha256: Mapping[str, str]
    """SHA-256, in hexadecimal, of every file of the program, by its path beside this spec, with
    ``/`` between folders."""
    image_format: str
    """What the program's channels are, one of ``image_form.FORMATS`` (cfg.INPUT.FORMAT)."""
    min_size_test: int
    """ResizeShortestEdge's short edge; 0 leaves the image as it is (cfg.INPUT.MIN_SIZE_TEST)."""
    max_size_test: int
    """ResizeShortestEdge's bound of the long edge (cfg.INPUT.MAX_SIZE_TEST)."""
    size_divisibility: int
    """Padding unit of the backbone. The program pads by itself; this is for information."""
    outputs: tuple[str, ...]
    """Those of instances, of sem_seg or both, or of proposals; see ``RawOutputs``. Those of
    ``extras`` come after them."""
    box_mode: str
    """``"XYXY_ABS"``, or ``"XYWHA_ABS"`` for rotated boxes."""
    class_names: tuple[str, ...] | None
    stuff_class_names: tuple[str, ...] | None
    """Names of the labels of sem_seg, in order."""
    panoptic: PanopticMerge | None
    """For Panoptic FPN, whose instances and sem_seg are merged; None for all others."""
    rewrites: tuple[str, ...]
    """Names of what was rewritten in detectron2's modules for the export."""
    score_thresh: float | None
    nms_thresh: float | None
    detections_per_image: int | None
    mask_threshold: float
    """A pixel belongs to a mask when its probability is at least this."""
    dynamic_batch: bool
    """Whether one call may take several images."""
    versions: Mapping[str, str]
    """Versions of the tools that made the program."""
    verification: Mapping[str, Any]
    """What was compared with eager detectron2, and how far apart the two were."""
    accuracy: Mapping[str, Any]
    """COCO AP in fp32 and in a lower precision, and the data set; empty where that is fp32."""
    limits: RequestLimits = DEFAULT_LIMITS
    """Of a request; whoever serves the archive may set others."""
    provenance: Provenance | None = None
    """None in archives of schema 2."""
    channels: int = 3
    """Of an image as the program takes it (the length of cfg.MODEL.PIXEL_MEAN)."""
    postprocessed: bool = False
    """Whether the program holds the model's own postprocessing: beside the image it takes the
    height and width at which that was sent, and what it answers is final."""
    extras: tuple[Extra, ...] = ()
    """What the model answers beyond detectron2's own fields."""
    sixteen_bit: str = OPENCV
    """How image files of 16 bits a sample become 8: as by ``"opencv"`` or by ``"read_image"``."""
    detail_classes: int | None = None
    """Of a program that makes details (``Details``) only where they are asked for: of how many
    classes its input ``detail_scores`` has an entry. None where it makes them of all."""
    schema_version: int = SCHEMA_VERSION
    """Of the file that was read."""

    @property
    def image_form(self) -> ImageForm:
        """The form of the images that the model takes."""
        return ImageForm(self.image_format, self.channels, self.sixteen_bit)

    @property
    def joins_images(self) -> bool:
        """Whether a call's images are one array, and its answers those of all images."""
        return self.dynamic_batch and self.method in RUNTIMES[self.runtime].joining_methods

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what the program takes, in its order."""
        if self.joins_images:
            return BATCH_INPUTS
        return input_names(self.postprocessed, self.detail_classes is not None)

    def to_json(self) -> str:
        """The text of ``model_spec.json``."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> ModelSpec:
        """Parse the text of a ``model_spec.json``.

        Raises:
            SpecError: not JSON, another schema, or fields missing, unknown or of a wrong type.
        """
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise SpecError(f"{SPEC_FILE} is not JSON ({error}). Export the model again.") from None
        if not isinstance(raw, dict):
            raise SpecError(f"{SPEC_FILE} holds a {type(raw).__name__}, expected an object.")
        version = raw.get("schema_version")
        if version not in READABLE_SCHEMAS:
            raise SpecError(
                f"{SPEC_FILE} has schema_version {version!r}; this library reads "
                f"{' and '.join(map(str, READABLE_SCHEMAS))}. "
                "The archive was made by another version of d2serve: export the model again."
            )
        raw = upgraded(raw, version)
        known = {field.name for field in fields(ModelSpec)}
        missing, unknown = sorted(known - raw.keys()), sorted(raw.keys() - known)
        if missing or unknown:
            raise SpecError(
                f"{SPEC_FILE} does not follow schema {version}: missing {missing}, "
                f"unknown {unknown}. It was edited or damaged: export the model again."
            )
        wrong = wrong_types(raw)
        if wrong:
            raise SpecError(f"{SPEC_FILE} is wrong: {'; '.join(wrong)}. Export the model again.")
        for name in ("outputs", "class_names", "stuff_class_names", "rewrites"):
            raw[name] = None if raw[name] is None else tuple(raw[name])
        if raw["panoptic"] is not None:
            raw["panoptic"] = PanopticMerge(**raw["panoptic"])
        if raw["provenance"] is not None:
            raw["provenance"] = Provenance(**raw["provenance"])
        raw["extras"] = tuple(map(Extra.from_json, raw["extras"]))
        raw["limits"] = RequestLimits(**raw["limits"])
        spec = ModelSpec(**raw)
        spec._check()
        return spec

    def _check(self) -> None:
        problems = [
            f"{name} is {value!r}, expected one of {allowed}"
            for name, value, allowed in (
                ("method", self.method, METHODS),
                ("runtime", self.runtime, tuple(RUNTIMES)),
                ("precision", self.precision, precisions()),
                ("box_mode", self.box_mode, (XYXY_ABS, XYWHA_ABS)),
            )
            if value not in allowed
        ]
        own = without_extras(self.extras, self.outputs)
        problems += self.image_form.problems()
        problems += problems_of_outputs(
            own, self.box_mode, self.panoptic is not None, self.postprocessed
        )
        problems += problems_of_extras(self.extras, self.outputs)
        final = self.postprocessed or self.panoptic is not None
        problems += problems_of_details(self.detail_classes, own, final)
        names = (self.program, *self.sha256)
        problems += [
            f"{name!r} is no path of a file beside {SPEC_FILE}"
            for name in names
            if not _is_beside(name)
        ]
        if self.program not in self.sha256:
            problems.append(f"sha256 has no hash of the program, {self.program}")
        problems += [
            f"{name} is {value!r}, expected {expected}"
            for name, value, expected, holds in (
                ("min_size_test", self.min_size_test, "0 or more", self.min_size_test >= 0),
                ("max_size_test", self.max_size_test, "1 or more", self.max_size_test >= 1),
                ("mask_threshold", self.mask_threshold, "above 0", 0 < self.mask_threshold <= 1),
            )
            if not holds
        ]
        merge = {} if self.panoptic is None else asdict(self.panoptic)
        problems += [
            f"panoptic.{name} is {value!r}, expected 0 or more"
            for name, value in merge.items()
            if not 0 <= value < float("inf")
        ]
        problems += [f"limits: {problem}" for problem in problems_of(asdict(self.limits))]
        if problems:
            raise SpecError(f"{SPEC_FILE} is wrong: {'; '.join(problems)}. Export the model again.")


def _is_beside(name: str) -> bool:
    """Whether a name leads to a file in the spec's folder or below, written in one way only."""
    path = PurePosixPath(name)
    return "\\" not in name and path.as_posix() == name and not is_outside(name)


def read_spec(model_dir: Path) -> ModelSpec:
    """Read ``model_spec.json`` of an extracted archive.

    Raises:
        SpecError: there is none, or it cannot be used.
    """
    path = model_dir / SPEC_FILE
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SpecError(
            f"No readable {SPEC_FILE} in {model_dir} ({error.strerror}). "
            "Is this an archive made by `d2serve export`?"
        ) from None
    return ModelSpec.from_json(text)
