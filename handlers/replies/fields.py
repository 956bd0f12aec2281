"""The fields of a reply: what a client gets of what a model finds.

``FIELDS`` is the one description of each. The outputs of the Open Inference Protocol and the
model's metadata follow from it; the JSON reply, the attributes of the client's results and the
tables in docs/requests.md are held to it by tests.
"""

from __future__ import annotations

from dataclasses import dataclass

from d2serve.handlers.spec.extras import IMAGE, INSTANCE, Extra
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.output_names import (
    BOXES,
    CLASSES,
    HEATMAPS,
    KEYPOINTS,
    MASKS,
    OBJECTNESS_LOGITS,
    PANOPTIC_SEG,
    PROPOSAL_BOXES,
    SCORES,
    SEM_SEG,
    XYWHA_ABS,
)

BYTES, INT64, FP32 = "BYTES", "INT64", "FP32"
"""Datatypes of the Open Inference Protocol."""
_DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": INT64,
    "float16": FP32,  # for which its messages have no place
    "float32": FP32,
    "float64": "FP64",
}
"""By numpy's names."""

CLASS_NAMES, PANOPTIC = "class_names", "panoptic"
MASK_TENSOR = "masks"


@dataclass(frozen=True)
class OutputTensor:
    """An output of the Open Inference Protocol; -1 in its shape is as many as there are."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Field:
    """One field of a reply."""

    name: str
    """In the JSON reply, and in the client's Prediction: ``instances[].bbox`` is the ``bbox`` of
    each of the ``instances``."""
    sources: tuple[str, ...]
    """Outputs of the program, of which any one gives it; empty where every reply has it."""
    tensor: OutputTensor | None
    """None where the protocol's answer has it in the metadata."""
    meaning: str
    needs: str | None = None
    """What the spec has to hold beside, by its name there."""
    alone: tuple[str, ...] = ()
    """Outputs of the program, of which any one gives it without that."""
    extras_per: tuple[str, ...] = ()
    """Of a field that has a model's own: of which of ``Extra.per``. Each has a tensor by itself."""

    def is_in(self, spec: ModelSpec) -> bool:
        """Whether a model of this spec answers it."""
        if any(each in spec.outputs for each in self.alone):
            return True
        if self.needs is not None and getattr(spec, self.needs) is None:
            return False
        if self.extras_per:
            return any(each.per in self.extras_per for each in spec.extras)
        return not self.sources or any(each in spec.outputs for each in self.sources)


FIELDS = (
    Field(
        "image",
        (),
        OutputTensor("image_size", INT64, (2,)),
        "height and width of the image as it was sent, its EXIF orientation applied",
    ),
    Field(
        "image.converted",
        (),
        None,
        "`16-bit to 8-bit`: what was done to the values of a file of 16 bits; else absent",
    ),
    Field(
        "instances[].bbox",
        (BOXES,),
        OutputTensor("boxes", FP32, (-1, 4)),
        "x0, y0, x1, y1 in its pixels; of rotated boxes centre, size and angle",
    ),
    Field("instances[].bbox_mode", (BOXES,), None, "`XYXY_ABS`, or `XYWHA_ABS` of rotated boxes"),
    Field("instances[].score", (SCORES,), OutputTensor("scores", FP32, (-1,)), "falling"),
    Field(
        "instances[].category_id",
        (CLASSES,),
        OutputTensor("classes", INT64, (-1,)),
        "detectron2's class index, from 0",
    ),
    Field(
        "instances[].category_name",
        (CLASSES,),
        OutputTensor("class_names", BYTES, (-1,)),
        "where the archive has names",
        CLASS_NAMES,
    ),
    Field(
        "instances[].segmentation",
        (MASKS,),
        OutputTensor(MASK_TENSOR, BYTES, (-1,)),
        "COCO's RLE, or polygons with `masks=polygon`; absent with `none`",
    ),
    Field(
        "instances[].keypoints",
        (KEYPOINTS, HEATMAPS),
        OutputTensor("keypoints", FP32, (-1, -1, 3)),
        "x, y, score of each",
    ),
    Field(
        "instances[].extra",
        (),
        None,
        "what the model's author added to each instance, by name",
        extras_per=(INSTANCE,),
    ),
    Field(
        "proposals[].bbox",
        (PROPOSAL_BOXES,),
        OutputTensor("proposal_boxes", FP32, (-1, 4)),
        "x0, y0, x1, y1 of a region proposal network",
    ),
    Field("proposals[].bbox_mode", (PROPOSAL_BOXES,), None, "`XYXY_ABS`"),
    Field(
        "proposals[].objectness_logit",
        (OBJECTNESS_LOGITS,),
        OutputTensor("objectness_logits", FP32, (-1,)),
        "falling",
    ),
    Field(
        "sem_seg",
        (SEM_SEG,),
        OutputTensor("sem_seg", BYTES, (1,)),
        "the class of each pixel, and the classes that there are",
    ),
    Field(
        "panoptic_seg",
        (SEM_SEG,),
        OutputTensor("panoptic_seg", BYTES, (1,)),
        "the segment of each pixel, and what each segment is",
        PANOPTIC,
        (PANOPTIC_SEG,),
    ),
    Field(
        "extra",
        (),
        None,
        "what the model's author added for the image, by name",
        extras_per=(IMAGE,),
    ),
    Field(
        "extra_fields",
        (),
        None,
        "name, type and shape of all that is under `extra`",
        extras_per=(INSTANCE, IMAGE),
    ),
)
"""In the order of a reply."""

REPLY = OutputTensor("reply", BYTES, (1,))
"""The whole JSON reply, or the picture, as an output of the protocol."""


def tensors_of(spec: ModelSpec) -> tuple[OutputTensor, ...]:
    """The outputs that a call of the Open Inference Protocol may ask for, in order."""
    tensors = [each.tensor for each in FIELDS if each.tensor is not None and each.is_in(spec)]
    if spec.box_mode == XYWHA_ABS:
        rotated = OutputTensor("boxes", FP32, (-1, 5))
        tensors = [rotated if each.name == rotated.name else each for each in tensors]
    return (*tensors, *map(_of_extra, spec.extras), REPLY)


def _of_extra(extra: Extra) -> OutputTensor:
    sides = tuple(-1 if side is None else side for side in extra.shape)
    # The protocol's servers do not all take a tensor without a dimension.
    shape = (-1, *sides) if extra.per == INSTANCE else sides or (1,)
    return OutputTensor(extra.output, _DATATYPES[extra.dtype], shape)
